"""Observers: from the statistics of a tensor to the range its quantization covers. One file each.

An observer is a function `(statistics, levels) -> (low, high)`, `levels` being the number of quantization levels (256
for eight bits). The range it returns lies inside the observed one; the caller widens it to hold zero.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from edgeq.errors import UsageError
from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.observers import entropy, l24, minmax, moving_average, mse, percentile

Observer = Callable[[TensorStatistics, int], tuple[float, float]]

OBSERVERS: dict[str, Observer] = {
    "l2.4": l24.observe,
    "minmax": minmax.observe,
    "moving-average": moving_average.observe,
    "percentile": percentile.observe,
    "mse": mse.observe,
    "entropy": entropy.observe,
}
DEFAULT = "l2.4"


def get(name: str) -> Observer:
    """The observer of that name.

    Raises:
        UsageError: there is none; the message lists those that exist.
    """
    if name in OBSERVERS:
        return OBSERVERS[name]
    near = difflib.get_close_matches(name, OBSERVERS, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"unknown observer {name!r}", where="option observer", hint=f"{hint}known observers: {', '.join(OBSERVERS)}"
    )


__all__ = ["DEFAULT", "OBSERVERS", "Observer", "get"]
