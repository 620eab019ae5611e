"""What a search decides on: the places that matter on the target, what each form costs there, and what it loses."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.search.costs.cost import Costs, effective, fitting, gainful, measure, useful
from edgeq.search.harm import MEASURES, sensitivities
from edgeq.search.harm_forms import form_harm
from edgeq.search.problem import Problem, Progress
from edgeq.search.result.refuse import left_out
from edgeq.search.space import Choice, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder


@dataclass(frozen=True)
class Survey:
    """Places and their useful forms, costs and sensitivities; notes of the costs say what was left out."""

    space: Space
    costs: Costs
    harm: dict[str, dict[Choice, float]]


def survey(
    problem: Problem,
    wanted: Space,
    store: Store,
    builder: KernelBuilder,
    counted: Callable[[Costs], Collection[str]],
    *,
    arena: float | None = None,
    threads: int = 4,
    costs_from: str = "measured",
    measure_harm: str = MEASURES[0],
    progress: Progress | None = None,
) -> Survey:
    """Measure a space, and leave out of it what can win nothing.

    Args:
        problem: model, data and target. wanted: of `find_space`. store: what was measured before is taken from it.
        builder: code generators. counted: names of the resources that something can be won of, given the costs.
        arena: most bytes of it.
        threads: samples run at a time. costs_from: measured or predicted. measure_harm: divergence or hessian.
    """
    problem.round_all(wanted, progress)
    space = effective(problem, wanted, progress)
    costs = measure(problem, space, store, builder, progress, costs_from)
    resources = counted(costs)
    space = gainful(fitting(space, costs, arena), costs, resources)
    harm = sensitivities(problem, space, store, progress, measure_harm)
    harm |= form_harm(problem, wanted, space, store, builder, threads, progress)
    space = useful(space, costs, resources, harm)
    costs = costs.restricted(space)
    costs.notes.extend(left_out(wanted, space, problem.name))
    return Survey(space, costs, harm)
