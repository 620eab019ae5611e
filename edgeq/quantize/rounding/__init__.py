"""Rounding of weights: how the integers of a layer are chosen so that its output, on its integer input, errs least."""
