"""Convolutions and matrix products with constant weights, as implicit matrix products."""
