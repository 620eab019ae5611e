"""Cortex-M: DSP instructions and MVE."""
