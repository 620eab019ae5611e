"""Moving average: exponentially weighted mean of the extremes of each sample, in the order of the samples."""

from __future__ import annotations

from edgeq.quantize.histogram import TensorStatistics

#: Weight of a new sample.
MOMENTUM = 0.1


def observe(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """Mean of the samples' extremes, weights decaying by 1 − MOMENTUM a sample; starts at the first sample."""
    return _mean(statistics.sample_lows, statistics.low), _mean(statistics.sample_highs, statistics.high)


def _mean(values: list[float], default: float) -> float:
    if not values:
        return default
    mean = values[0]
    for value in values[1:]:
        mean += MOMENTUM * (value - mean)
    return mean
