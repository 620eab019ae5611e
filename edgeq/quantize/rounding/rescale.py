"""Scale and integers in turns: the best scale for given integers, then the best integers for that scale.

For integers q of a row that approaches w, the error (s·q − w) H (s·q − w)ᵀ is a parabola in s with its vertex at
s = (q H wᵀ) / (q H qᵀ). Coordinate descent on the new grid only lowers the error, so neither half of a turn raises it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.rounding.gptq import descend
from edgeq.quantize.rounding.problem import Problem

Float = NDArray[np.float64]

#: Turns: later ones hardly move anything.
TURNS = 4


def rescale(problem: Problem, values: Float, scale: Float, turns: int = TURNS) -> tuple[Float, Float]:
    """Rows that err less, or the same.

    Args:
        problem: the layer. values: whole numbers [groups, rows, K]. scale: [groups, rows], real units per step.

    Returns:
        values and scale.
    """
    least = problem.error(values, scale)
    wanted = problem.targets @ problem.covariance
    for _ in range(turns):
        along = np.sum(values * wanted, axis=-1)
        power = np.sum(values * (values @ problem.covariance), axis=-1)
        fitted = np.where((along > 0) & (power > 0), along / np.where(power > 0, power, 1.0), scale)
        tried_scale = problem.usable(fitted)
        tried = descend(values, problem.targets / tried_scale[:, :, None], problem.covariance, problem.qmax)
        error = problem.error(tried, tried_scale)
        better = error < least
        if not better.any():
            break
        values, scale = np.where(better[:, :, None], tried, values), np.where(better, tried_scale, scale)
        least = np.where(better, error, least)
    return values, scale
