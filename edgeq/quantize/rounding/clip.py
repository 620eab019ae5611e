"""Where to clip the weights of a channel: scales to choose from.

`max` covers the largest weight, `mse` has the least squared error of the weights, `output` the least error of the
layer's output on its integer input. All three judge rounding to nearest; the search behind rounding takes, row by row,
the one whose rounded weights serve the output best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.integerize.weights import CLIPPING
from edgeq.quantize.rounding.problem import Problem

Float = NDArray[np.float64]

#: Widths from which on the largest weight decides: finer steps gain less than clipping costs.
NO_CLIPPING_FROM = 7


def largest(problem: Problem) -> Float:
    """Scales that cover the largest weight of each row: [groups, rows]."""
    return np.asarray(np.abs(problem.targets).max(axis=2, initial=0.0) / problem.qmax)


def clipped(problem: Problem, *, by_output: bool) -> Float:
    """Scales with the least error of the weights, or of the output: [groups, rows]."""
    top = largest(problem)
    best, least = top, np.full(top.shape, np.inf)
    for share in CLIPPING:
        scale = np.where(top > 0, top * share, 1.0)
        values = np.clip(np.rint(problem.targets / scale[:, :, None]), -problem.qmax, problem.qmax)
        if by_output:
            error = problem.error(values, scale)
        else:
            error = np.sum((values * scale[:, :, None] - problem.targets) ** 2, axis=2)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.asarray(np.where(top > 0, best, 0.0))


def candidates(problem: Problem, clip: str | None = None) -> list[Float]:
    """Scales to try.

    Args:
        clip: `max`, `mse`, `output`, or None: `max` from 7 bits up, `mse` and `output` below.
    """
    if clip == "max" or (clip is None and problem.bits >= NO_CLIPPING_FROM):
        return [problem.usable(largest(problem))]
    chosen = ("mse", "output") if clip is None else (clip,)
    return [problem.usable(clipped(problem, by_output=name == "output")) for name in chosen]
