"""L2.4 (the default): the range with the least mean |error|^2.4.

The exponent lies between the squared error, which clips a little too much, and the maximum, which clips nothing. Of the
observers here it keeps the most accuracy over small classifiers, depthwise networks and a detector.
"""

from __future__ import annotations

from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.observers.norm import search

EXPONENT = 2.4


def observe(statistics: TensorStatistics, levels: int) -> tuple[float, float]:
    """Range that minimises the mean of |error|^2.4 over the histogram, low and high end apart."""
    return search(statistics, levels, EXPONENT)
