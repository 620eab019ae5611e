"""Layers whose weights are ±a and whose activations have two values: a bit each, counted instead of multiplied."""
