"""Convolutions whose channels keep to themselves."""
