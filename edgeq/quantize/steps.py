"""Values that are only compared with a threshold: what a step function reads (BipolarQuant of QONNX, a sign).

Far from the threshold nothing depends on them. So their eight bits go to its surroundings, where a step is as fine as
one of 16 bits over the whole range would be; all else saturates. The result has two values in the integer graph too:
an interpolated table over 16 bits would pass through others between them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgeq.frontend.unary import UnaryFunction
from edgeq.quantize.topology import Topology

_LOOKS, _HALVINGS = 1025, 60
_FINE = 127 / 2**15  # of the range's larger end: 127 steps of 16 bits


def threshold_of(function: UnaryFunction, low: float, high: float) -> float | None:
    """Where a function that has two values in [low, high] changes from one to the other; None: it isn't such a one."""
    if function.channels is not None or not low < high:
        return None
    points = np.linspace(low, high, _LOOKS)
    (changes,) = np.nonzero(np.diff(function(points)))
    if len(changes) != 1:
        return None
    before, behind = float(points[changes[0]]), float(points[changes[0] + 1])
    first = float(function([before])[0])
    for _ in range(_HALVINGS):
        middle = (before + behind) / 2
        if float(function([middle])[0]) == first:
            before = middle
        else:
            behind = middle
    return behind


def compared_range(topology: Topology, names: Iterable[str], low: float, high: float) -> tuple[float, float] | None:
    """The range to keep of values that share a scale, where all that reads them are steps at one threshold; else None.

    Args:
        names: of the values. low, high: their range.
    """
    outputs = {value.name for value in topology.graph.outputs}
    found: set[float | None] = set()
    for name in names:
        readers = topology.readers(name)
        if name in outputs or not readers or any(layer.op != "Unary" for layer in readers):
            return None
        found |= {threshold_of(topology.source.unary(layer.node), low, high) for layer in readers}
    if len(found) != 1 or None in found:
        return None
    [threshold] = (value for value in found if value is not None)
    reach = _FINE * max(-low, high)
    return threshold - reach, threshold + reach
