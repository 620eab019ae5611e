"""NSGA-II with a predictor in the loop: the front is evolved on guessed accuracies, its members are judged for real.

Each round trains the predictor on everything judged so far, evolves a population on (cost, guessed accuracy) with
pymoo's NSGA-II (Deb et al., 2002) and judges the most different members of its front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.search.solvers.milp import Table, total
from edgeq.search.solvers.predictor import AccuracyPredictor
from edgeq.search.solvers.sampling import Judge, Judged, draw
from edgeq.search.space import Choice, Space

POPULATION, GENERATIONS = 60, 40
#: Share of the evaluations that are drawn before anything is guessed, and how many rounds share the others.
DRAWN, ROUNDS = 0.25, 8


def evolve(
    space: Space,
    cost: Table,
    harm: Table,
    judge: Judge,
    *,
    evaluations: int,
    seed: int = 0,
    start: Sequence[dict[str, Choice]] = (),
) -> list[Judged]:
    """Search the front of cost and accuracy.

    Args:
        space: layers and forms. cost: summed over layers. harm: sensitivities, a feature of the predictor.
        judge: gives the accuracies of a list of policies. evaluations: how many it is asked for at most.
        seed: of every random choice. start: policies to begin with.

    Returns:
        all that were judged, in order.
    """
    generator = np.random.default_rng(seed)
    seen: set[tuple[Choice, ...]] = set()
    judged: list[Judged] = []

    def spend(wanted: Sequence[dict[str, Choice]]) -> int:
        batch = []
        for forms in wanted:
            key = tuple(forms[layer.name] for layer in space.places)
            if key not in seen and len(seen) < evaluations:
                seen.add(key)
                batch.append(forms)
        scores = judge(batch) if batch else []
        judged.extend(Judged(f, total(cost, f), a) for f, a in zip(batch, scores, strict=True))
        return len(batch)

    first = max(4, round(DRAWN * evaluations))
    ends = [space.uniform(*form) for form in (space.forms[0], space.forms[-1])]
    spend([*ends, *start, *(draw(space, generator) for _ in range(max(0, first - len(start) - 2)))])
    size = max(2, -(-(evaluations - len(seen)) // ROUNDS))
    predictor = AccuracyPredictor(space, harm)
    while len(seen) < evaluations:
        predictor.train([each.forms for each in judged], [each.accuracy for each in judged])
        known = [each.forms for each in judged]
        found = _evolved(space, cost, predictor, known, int(generator.integers(2**31)))
        fresh = [f for f in found if tuple(f[layer.name] for layer in space.places) not in seen]
        picked = (
            [fresh[i] for i in np.unique(np.linspace(0, len(fresh) - 1, size).round().astype(int))] if fresh else []
        )
        # A front without news: explore instead.
        if spend(picked) == 0 and spend([draw(space, generator) for _ in range(16 * size)][:size]) == 0:
            break
    return judged


def _evolved(
    space: Space, cost: Table, predictor: AccuracyPredictor, known: list[dict[str, Choice]], seed: int
) -> list[dict[str, Choice]]:
    """Front on guessed accuracy, cheapest first."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.optimize import minimize

    layers = space.free

    def decode(row: NDArray[np.int64]) -> dict[str, Choice]:
        chosen = {layer.name: layer.forms[0] for layer in space.places}
        return chosen | {layer.name: layer.forms[int(i)] for layer, i in zip(layers, row, strict=True)}

    class Guessed(Problem):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: NDArray[np.int64], out: dict[str, Any], *_: Any, **__: Any) -> None:
            policies = [decode(row) for row in x]
            out["F"] = np.column_stack([[total(cost, p) for p in policies], -predictor.predict(policies)])

    best = known[-POPULATION:]
    population = np.array([[layer.forms.index(p[layer.name]) for layer in layers] for p in best])
    upper = np.array([len(layer.forms) - 1 for layer in layers])
    random = np.random.default_rng(seed).integers(0, upper + 1, (max(0, POPULATION - len(best)), len(layers)))
    algorithm = NSGA2(
        POPULATION,
        sampling=np.vstack([population, random]),
        crossover=UniformCrossover(repair=RoundingRepair()),
        mutation=PolynomialMutation(prob_var=max(0.1, 1 / len(layers)), eta=3, repair=RoundingRepair(), vtype=float),
    )
    problem = Guessed(n_var=len(layers), n_obj=2, xl=0, xu=upper, vtype=int)
    found = minimize(problem, algorithm, ("n_gen", GENERATIONS), seed=seed)
    rows = np.unique(np.atleast_2d(found.X).astype(int), axis=0)
    return sorted((decode(row) for row in rows), key=lambda forms: total(cost, forms))
