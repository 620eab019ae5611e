"""Percentile: leave out the same small share of the values at either end."""

from __future__ import annotations

import numpy as np

from edgeq.quantize.histogram import TensorStatistics

#: Share of the values (zeros included) outside the range at each end. 99.9 would already clip what networks need.
TAIL = 1e-5


def observe(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """The TAIL and 1 − TAIL quantiles, to the resolution of the histogram; `levels` plays no part."""
    if not statistics.counts.size:
        return statistics.low, statistics.high
    edges = (np.arange(len(statistics.counts) + 1) + statistics.first) * statistics.width
    # Zeros live apart from the bins: put them back in at the place of the value zero.
    place = min(max(-statistics.first, 0), len(statistics.counts) - 1)
    counts = statistics.counts.astype(np.float64)
    counts[place] += statistics.zeros
    cumulative = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    low = float(np.interp(TAIL, cumulative, edges))
    high = float(np.interp(1.0 - TAIL, cumulative, edges))
    if statistics.zeros:
        low, high = min(low, 0.0), max(high, 0.0)
    return max(low, statistics.low), min(high, statistics.high)
