"""The exact solver: one binary variable per (layer, width), solved by HiGHS through SciPy.

    minimise    Σ cost · x
    subject to  Σ_w x[l, w] = 1                   for every layer l
                Σ sensitivity · x ≤ budget
                Σ resource · x ≤ limit            for every limited resource

SciPy's `milp` (HiGHS: Huangfu and Hall, Mathematical Programming Computation 10, 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.search.space import Space

Table = Mapping[str, Mapping[int, float]]
"""Layer name → {bits: amount}."""

# Amounts are scaled to their largest value; what is smaller than this beside it decides nothing.
_RELATIVE_GAP = 1e-9


@dataclass(frozen=True)
class Bound:
    """Σ table ≤ most."""

    table: Table
    most: float


def solve(space: Space, cost: Table, bounds: list[Bound], tie_break: Table | None = None) -> dict[str, int] | None:
    """The cheapest assignment within all bounds.

    Args:
        space: the layers and their widths.
        cost: what is made small.
        bounds: what is limited.
        tie_break: of equally cheap assignments take the one with the least of this.

    Returns:
        layer name → bits; None where no assignment keeps to the bounds.
    """
    best = _minimise(space, cost, bounds)
    if best is None or tie_break is None:
        return best
    reached = sum(cost[name][bits] for name, bits in best.items())
    scale = max((abs(v) for row in cost.values() for v in row.values()), default=0.0)
    polished = _minimise(space, tie_break, [*bounds, Bound(cost, reached + scale * _RELATIVE_GAP)])
    return polished or best


def _minimise(space: Space, cost: Table, bounds: list[Bound]) -> dict[str, int] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    variables = [(layer.name, bits) for layer in space.layers for bits in layer.widths]
    rows, columns = [], []
    place = 0
    for row, layer in enumerate(space.layers):
        for _ in layer.widths:
            rows.append(row)
            columns.append(place)
            place += 1
    one_each = csr_array((np.ones(place), (rows, columns)), shape=(len(space.layers), place))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for bound in bounds:
        line, scale = _line(bound.table, variables)
        constraints.append(LinearConstraint(line[None, :], -np.inf, bound.most / scale))
    line, _ = _line(cost, variables)
    found = milp(line, constraints=constraints, integrality=np.ones(place), bounds=Bounds(0, 1))
    if found.x is None:
        return None
    return {name: bits for (name, bits), value in zip(variables, found.x, strict=True) if value > 0.5}


def _line(table: Table, variables: list[tuple[str, int]]) -> tuple[NDArray[np.float64], float]:
    """Coefficients scaled to at most 1: HiGHS's tolerances are absolute."""
    line = np.array([table[name][bits] for name, bits in variables], np.float64)
    scale = float(np.abs(line).max()) or 1.0
    return line / scale, scale


def total(table: Table, assignment: Mapping[str, int]) -> float:
    """Σ table over an assignment."""
    return float(sum(table[name][bits] for name, bits in assignment.items()))
