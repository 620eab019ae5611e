"""The exact solver: one binary variable per (layer, form), solved by HiGHS through SciPy.

    minimise    Σ cost · x
    subject to  Σ_f x[l, f] = 1                   for every layer l
                Σ sensitivity · x ≤ budget
                Σ resource · x ≤ limit            for every limited resource

SciPy's `milp` (HiGHS: Huangfu and Hall, Mathematical Programming Computation 10, 2018).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.search.space import Assignment, Choice, Space

Table = Mapping[str, Mapping[Choice, float]]
"""Layer name → {form: amount}."""

# Amounts are scaled to their largest value; what is smaller than this beside it decides nothing.
_RELATIVE_GAP = 1e-9


@dataclass(frozen=True)
class Bound:
    """Σ table ≤ most."""

    table: Table
    most: float


def solve(space: Space, cost: Table, bounds: list[Bound], tie_break: Table | None = None) -> dict[str, Choice] | None:
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


def _minimise(space: Space, cost: Table, bounds: list[Bound]) -> dict[str, Choice] | None:
    def rows(table: Table) -> dict[str, list[float]]:
        return {layer.name: [table[layer.name][form] for form in layer.forms] for layer in space.places}

    found = cheapest(rows(cost), [Line(rows(bound.table), bound.most) for bound in bounds])
    return None if found is None else {layer.name: layer.forms[found[layer.name]] for layer in space.places}


@dataclass(frozen=True)
class Line:
    """Σ rows[name][choice] ≤ most."""

    rows: Mapping[str, Sequence[float]]
    most: float


def cheapest(cost: Mapping[str, Sequence[float]], lines: Sequence[Line]) -> dict[str, int] | None:
    """One choice for every name so that the sum of their costs is least.

    Args:
        cost: name → cost of each of its choices. lines: what is limited, with the same names and choices.

    Returns:
        name → place of its choice; None where nothing keeps to the limits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    owners = [row for row, choices in enumerate(cost.values()) for _ in choices]
    count = len(owners)
    one_each = csr_array((np.ones(count), (owners, range(count))), shape=(len(cost), count))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for line in lines:
        factors, scale = _scaled(line.rows, cost)
        constraints.append(LinearConstraint(factors[None, :], -np.inf, line.most / scale))
    objective, _ = _scaled(cost, cost)
    with stdout_is_ours():
        found = milp(objective, constraints=constraints, integrality=np.ones(count), bounds=Bounds(0, 1))
    if found.x is None:
        return None
    taken, places = iter(found.x), {}
    for name, choices in cost.items():
        places[name] = int(np.argmax([next(taken) for _ in choices]))
    return places


def _scaled(rows: Mapping[str, Sequence[float]], names: Iterable[str]) -> tuple[NDArray[np.float64], float]:
    """Coefficients scaled to at most 1: HiGHS's tolerances are absolute."""
    line = np.array([value for name in names for value in rows[name]], np.float64)
    scale = float(np.abs(line).max()) or 1.0
    return line / scale, scale


def total(table: Table, assignment: Assignment) -> float:
    """Σ table over an assignment."""
    return float(sum(table[name][form] for name, form in assignment.items()))


@contextmanager
def stdout_is_ours() -> Iterator[None]:
    """HiGHS prints some lines whatever its options say; they go to stderr, since stdout may be somebody's JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C still holds
        os.dup2(kept, 1)
        os.close(kept)
