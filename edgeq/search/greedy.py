"""The baseline: narrow the layer that gains most per harm, until the budget is spent."""

from __future__ import annotations

from edgeq.search.milp import Bound, Table
from edgeq.search.space import Space


def solve(space: Space, cost: Table, harm: Table, budget: float, bounds: list[Bound] | None = None) -> dict[str, int]:
    """A good assignment with Σ harm ≤ budget, found step by step.

    Args:
        space: layers and widths. cost: what is made small. harm: what is limited by `budget`.
        bounds: steps that leave one of them are not taken; the start may be outside.

    Returns:
        layer name → bits.
    """
    chosen = {layer.name: layer.widths[0] for layer in space.layers}
    spent = sum(harm[name][bits] for name, bits in chosen.items())
    while True:
        best: tuple[float, str, int] | None = None
        for layer in space.layers:
            now = chosen[layer.name]
            for bits in layer.widths:
                gain = cost[layer.name][now] - cost[layer.name][bits]
                hurt = harm[layer.name][bits] - harm[layer.name][now]
                if bits >= now or gain <= 0 or spent + hurt > budget or not _inside(bounds, layer.name, now, bits):
                    continue
                rate = gain / max(hurt, 1e-12)
                if best is None or rate > best[0]:
                    best = (rate, layer.name, bits)
        if best is None:
            return chosen
        _, name, bits = best
        spent += harm[name][bits] - harm[name][chosen[name]]
        chosen[name] = bits


def _inside(bounds: list[Bound] | None, name: str, now: int, bits: int) -> bool:
    return all(bound.table[name][bits] <= bound.table[name][now] for bound in bounds or [])
