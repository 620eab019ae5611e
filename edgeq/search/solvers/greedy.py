"""The baseline: change the layer that gains most per harm, until the budget is spent."""

from __future__ import annotations

from edgeq.search.solvers.milp import Bound, Table
from edgeq.search.space import Choice, Space


def solve(
    space: Space, cost: Table, harm: Table, budget: float, bounds: list[Bound] | None = None
) -> dict[str, Choice]:
    """A good assignment with Σ harm ≤ budget, found step by step.

    Args:
        space: layers and forms. cost: what is made small. harm: what is limited by `budget`.
        bounds: steps that leave one of them are not taken; the start may be outside.

    Returns:
        layer name → form.
    """
    chosen = {layer.name: layer.forms[0] for layer in space.places}
    spent = sum(harm[name][form] for name, form in chosen.items())
    while True:
        best: tuple[float, str, Choice] | None = None
        for layer in space.places:
            now = chosen[layer.name]
            for form in layer.forms:
                gain = cost[layer.name][now] - cost[layer.name][form]
                hurt = harm[layer.name][form] - harm[layer.name][now]
                if gain <= 0 or spent + hurt > budget or not _inside(bounds, layer.name, now, form):
                    continue
                rate = gain / max(hurt, gain * 1e-12)
                if best is None or rate > best[0]:
                    best = (rate, layer.name, form)
        if best is None:
            return chosen
        _, name, form = best
        spent += harm[name][form] - harm[name][chosen[name]]
        chosen[name] = form


def _inside(bounds: list[Bound] | None, name: str, now: Choice, form: Choice) -> bool:
    return all(bound.table[name][form] <= bound.table[name][now] for bound in bounds or [])
