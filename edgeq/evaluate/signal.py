"""How far one tensor is from another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sqnr(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Signal to quantization noise ratio in dB: 10·log10(Σ reference² / Σ (reference − other)²).

    Args:
        reference: the float values, any shape.
        other: what stands for them, the same shape.

    Returns:
        dB; +inf where both are equal, −inf where the signal is zero and the noise isn't.
    """
    signal = np.asarray(reference, np.float64).ravel()
    noise = signal - np.asarray(other, np.float64).ravel()
    power, error = float(signal @ signal), float(noise @ noise)
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(power / error) if power > 0.0 else -math.inf


def largest_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """max |a − b|; 0 for empty arrays."""
    if a.size == 0:
        return 0.0
    return float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))


def agreement(reference: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Fraction of samples whose largest output is at the same place (top-1 agreement).

    Args:
        reference, other: [n, …] outputs; everything behind the sample axis is one vector of scores.

    Returns:
        0…1, or None where an output has a single value and nothing to choose from.
    """
    first = np.asarray(reference).reshape(len(reference), -1)
    second = np.asarray(other).reshape(len(other), -1)
    if first.shape[1] < 2 or not len(first):
        return None
    return float(np.mean(first.argmax(1) == second.argmax(1)))
