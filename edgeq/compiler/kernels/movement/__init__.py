"""Bytes that change place and nothing else."""
