"""The range that minimises the mean |error|^p of a quantized tensor, judged on its histogram.

Both ends are searched together first, then apart by coordinate descent: a coarse sweep over fractions of the observed
end, then finer ones around the best. The error is evaluated with the very quantizer that will be used (zero exactly
representable, zero point an integer), on the bin centres; a term for values off the centre of their bin is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.histogram import TensorStatistics

FloatArray = NDArray[np.float32]

_COARSE = np.concatenate([np.geomspace(0.02, 0.3, 8), np.linspace(0.35, 1.0, 27)])
_FINE = np.linspace(-0.035, 0.035, 15)
#: Bins the error is evaluated on: finer ones are folded, 4 bins a step lose nothing that matters.
_BINS = 1024


def search(statistics: TensorStatistics, levels: int, exponent: float) -> tuple[float, float]:
    """Best (low, high) for a tensor.

    Args:
        statistics: what calibration saw; zeros cost nothing and are left out.
        levels: number of quantization levels, 256 for eight bits.
        exponent: p of the norm, > 0.

    Returns:
        Range inside the observed one, widened to hold zero.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if not statistics.counts.any() or low == high:
        return low, high
    error = NormError.of(statistics, levels, exponent)
    # Both ends by one share first: moving one end alone from the full range would get stuck where it stands.
    low, high = _best(error, [(low * float(share), high * float(share)) for share in _COARSE], (low, high))
    for grid in (_COARSE, _FINE, _FINE):
        # Fractions of the observed ends, then steps of up to 3.5 % of them around what was found.
        highs = statistics.high * grid + (high if grid is _FINE else 0.0)
        high = _best(error, [(low, float(h)) for h in highs if 0 < h <= max(statistics.high, 0.0)], (low, high))[1]
        lows = statistics.low * grid + (low if grid is _FINE else 0.0)
        low = _best(error, [(float(v), high) for v in lows if min(statistics.low, 0.0) <= v < 0], (low, high))[0]
    return float(low), float(high)


def _best(error: NormError, candidates: list[tuple[float, float]], current: tuple[float, float]) -> tuple[float, float]:
    best, least = current, error(*current)
    for candidate in candidates:
        value = error(*candidate)
        if value < least:
            best, least = candidate, value
    return best


@dataclass(frozen=True)
class NormError:
    """Sum of |error|^p over a histogram as a function of the range.

    Attributes:
        values: bin centres, tensor units. weights: values per bin. width: bin width, tensor units.
        levels: quantization levels. exponent: p.
    """

    values: FloatArray
    weights: FloatArray
    width: float
    levels: int
    exponent: float

    @classmethod
    def of(cls, statistics: TensorStatistics, levels: int, exponent: float) -> NormError:
        """The error function of a tensor."""
        folded = statistics.copy()
        while len(folded.counts) > _BINS:
            folded.fold()
        used = np.flatnonzero(folded.counts)
        return cls(
            folded.centres[used].astype(np.float32),
            folded.counts[used].astype(np.float32),
            folded.width,
            levels,
            exponent,
        )

    def __call__(self, low: float, high: float) -> float:
        """Sum of |error|^p if [low, high] is quantized to `levels` levels."""
        step = (high - low) / (self.levels - 1)
        if step <= 0:
            return float("inf")
        below = round(-low / step)
        quantized = np.clip(np.rint(self.values * np.float32(1 / step)), -below, self.levels - 1 - below)
        error = np.abs(self.values - quantized * np.float32(step))
        # Mean of |u|^p for u uniform over ±half of what a value inside its bin, or inside its step, can be off by.
        floor = (min(self.width, step) / 2) ** self.exponent / (self.exponent + 1)
        return float(np.dot(self.weights, np.power(error, np.float32(self.exponent)) + np.float32(floor)))
