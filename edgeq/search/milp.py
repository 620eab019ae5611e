"""The exact solver: one binary variable per (layer, form), solved by HiGHS through SciPy.

    minimise    Σ cost · x
    subject to  Σ_f x[l, f] = 1                   for every layer l
                Σ sensitivity · x ≤ budget
                Σ resource · x ≤ limit            for every limited resource

SciPy's `milp` (HiGHS: Huangfu and Hall, Mathematical Programming Computation 10, 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.search.space import Assignment, Form, Space

Table = Mapping[str, Mapping[Form, float]]
"""Layer name → {form: amount}."""

# Amounts are scaled to their largest value; what is smaller than this beside it decides nothing.
_RELATIVE_GAP = 1e-9


@dataclass(frozen=True)
class Bound:
    """Σ table ≤ most."""

    table: Table
    most: float


def solve(space: Space, cost: Table, bounds: list[Bound], tie_break: Table | None = None) -> dict[str, Form] | None:
    """The cheapest assignment within all bounds.

    Args:
        space: the layers and their forms.
        cost: what is made small.
        bounds: what is limited.
        tie_break: of equally cheap assignments take the one with the least of this.

    Returns:
        layer name → form; None where no assignment keeps to the bounds.
    """
    best = _minimise(space, cost, bounds)
    if best is None or tie_break is None:
        return best
    reached = sum(cost[name][form] for name, form in best.items())
    scale = max((abs(v) for row in cost.values() for v in row.values()), default=0.0)
    polished = _minimise(space, tie_break, [*bounds, Bound(cost, reached + scale * _RELATIVE_GAP)])
    return polished or best


def _minimise(space: Space, cost: Table, bounds: list[Bound]) -> dict[str, Form] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    variables = [(layer.name, form) for layer in space.layers for form in layer.forms]
    rows, columns = [], []
    place = 0
    for row, layer in enumerate(space.layers):
        for _ in layer.forms:
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
    return {name: form for (name, form), value in zip(variables, found.x, strict=True) if value > 0.5}


def _line(table: Table, variables: list[tuple[str, Form]]) -> tuple[NDArray[np.float64], float]:
    """Coefficients scaled to at most 1: HiGHS's tolerances are absolute."""
    line = np.array([table[name][form] for name, form in variables], np.float64)
    scale = float(np.abs(line).max()) or 1.0
    return line / scale, scale


def total(table: Table, assignment: Assignment) -> float:
    """Σ table over an assignment."""
    return float(sum(table[name][form] for name, form in assignment.items()))
