"""Arm's Neon, 32 and 64 bits, and its matrix products."""
