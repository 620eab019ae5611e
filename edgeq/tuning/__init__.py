"""Measuring kernels on this machine: the search for schedules, and the ceilings a profile is compared with."""

from __future__ import annotations
