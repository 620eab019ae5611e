"""Random search: what every other search has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.search.solvers.milp import Table, total
from edgeq.search.space import Choice, Space

#: Gives the accuracies of policies.
Judge = Callable[[Sequence[dict[str, Choice]]], Sequence[float]]


@dataclass(frozen=True)
class Judged:
    """A policy with its cost and its judged accuracy."""

    forms: dict[str, Choice]
    cost: float
    accuracy: float


def draw(space: Space, generator: np.random.Generator) -> dict[str, Choice]:
    """A policy, every form of every layer equally likely."""
    return {layer.name: layer.forms[generator.integers(len(layer.forms))] for layer in space.places}


def random_search(space: Space, cost: Table, judge: Judge, *, evaluations: int, seed: int = 0) -> list[Judged]:
    """Judge that many different policies (fewer where there are no more)."""
    generator = np.random.default_rng(seed)
    wanted: dict[tuple[Choice, ...], dict[str, Choice]] = {}
    for _ in range(20 * evaluations):
        forms = draw(space, generator)
        wanted.setdefault(tuple(forms.values()), forms)
        if len(wanted) == evaluations:
            break
    policies = list(wanted.values())
    return [Judged(f, total(cost, f), a) for f, a in zip(policies, judge(policies), strict=True)]
