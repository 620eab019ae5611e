"""Convolutions of microcontrollers: DSP instructions on halfwords, and MVE."""
