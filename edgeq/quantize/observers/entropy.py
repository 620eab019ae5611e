"""Entropy: the range whose quantized distribution diverges least (Kullback-Leibler) from the original.

The idea is that of TensorRT's calibrator (Migacz, "8-bit inference with TensorRT", GTC 2017): clip at a threshold,
add the clipped mass to the end bins, quantize the histogram and compare. Exact zeros are left out: with the zero bin
in, the divergence of a ReLU network's tensors is smallest at absurdly small ranges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.histogram import TensorStatistics

#: Fractions of the observed range that are tried.
_SHARES = np.linspace(0.1, 1.0, 46)


def observe(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """Range with the least divergence; both ends are scaled by the same share of what was observed."""
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if not statistics.counts.any():
        return low, high
    best_share, least = 1.0, np.inf
    for share in _SHARES:
        divergence = _divergence(statistics, low * share, high * share, levels)
        if divergence < least:
            best_share, least = float(share), divergence
    return float(low * best_share), float(high * best_share)


def _divergence(statistics: TensorStatistics, low: float, high: float, levels: int) -> float:
    """KL divergence between the clipped histogram and the same with each level's mass spread evenly over its bins."""
    counts = statistics.counts.astype(np.float64)
    centres = statistics.centres
    inside = (centres >= low) & (centres <= high)
    if inside.sum() <= 1:
        return float("inf")
    kept = counts[inside]
    reference = kept.copy()
    reference[0] += counts[centres < low].sum()
    reference[-1] += counts[centres > high].sum()
    step = (high - low) / (levels - 1)
    level = np.clip(np.rint((centres[inside] - low) / step), 0, levels - 1).astype(np.int64)
    return _kl(reference, _spread(kept, level, levels))


def _spread(counts: NDArray[np.float64], level: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    mass = np.bincount(level, weights=counts, minlength=levels)
    occupied = np.bincount(level, weights=(counts > 0).astype(np.float64), minlength=levels)
    mean = mass / np.maximum(occupied, 1)
    return np.where(counts > 0, mean[level], 0.0)


def _kl(reference: NDArray[np.float64], model: NDArray[np.float64]) -> float:
    if model.sum() == 0:
        return float("inf")
    p = reference / reference.sum()
    q = model / model.sum()
    # A bin the model thinks empty must cost, but not infinitely: the end bins receive clipped mass.
    q = np.maximum(q, 1e-9)
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / q[used])))
