"""Min-max: the range is exactly what was seen. No clipping, coarse steps where a tensor has outliers."""

from __future__ import annotations

from edgeq.quantize.histogram import TensorStatistics


def observe(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """(lowest, highest) value seen in any sample; `levels` plays no part."""
    return statistics.low, statistics.high
