"""Calibration data: read, checked, in the form the model takes."""
