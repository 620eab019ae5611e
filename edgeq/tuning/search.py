"""The search for a schedule: every shape's candidates in turns, the fastest one is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.lower.select.choice import Decision
from edgeq.compiler.schedule import Schedule
from edgeq.compiler.target import Target
from edgeq.integer import prove
from edgeq.integer.graph import IntegerGraph
from edgeq.tuning.calls import KernelCalls, take_turns

Progress = Callable[[str, int, int], None]

_SCREEN_ROUNDS, _FINAL_ROUNDS, _FINALISTS = 5, 21, 3
_SURE = 0.98  # the default keeps its place unless another takes less than this of its time


@dataclass(frozen=True)
class Shape:
    """One shape's result.

    Attributes:
        key: of the schedule. layers: that have it.
        default, best: labels. ratio: median over rounds of default's time / best's (1: the default stays).
        seconds: of one run of the default, median.
        tried: candidates that were timed.
    """

    key: str
    layers: tuple[str, ...]
    default: str
    best: str
    ratio: float
    seconds: float
    tried: int


@dataclass(frozen=True)
class Tuning:
    """A schedule and how it was found.

    Attributes:
        gain: time of all these layers, default / best, summed over single measurements.
    """

    schedule: Schedule
    shapes: tuple[Shape, ...]

    @property
    def gain(self) -> float:
        before = sum(shape.seconds * len(shape.layers) for shape in self.shapes)
        after = sum(shape.seconds / shape.ratio * len(shape.layers) for shape in self.shapes)
        return before / after if after else 1.0


def search(graph: IntegerGraph, target: Target, builder: KernelBuilder, progress: Progress | None = None) -> Tuning:
    """Times the candidates of every shape of a graph on this machine.

    Raises:
        UsageError: the target's code doesn't run here. CompileError: see `compile_graph`.
    """
    prove(graph)
    decisions: dict[str, list[Decision]] = {}
    for decision in lower(graph, target).decisions:
        decisions.setdefault(decision.key, []).append(decision)
    specs = [c.spec for group in decisions.values() for c in group[0].candidates]
    report = (lambda done, total: progress("kernels", done, total)) if progress else None
    calls = KernelCalls(specs, target, builder, report)
    shapes = []
    for number, (key, group) in enumerate(decisions.items(), start=1):
        shapes.append(_shape(key, group, calls))
        if progress:
            progress("shapes", number, len(decisions))
    choices = {shape.key: shape.best for shape in shapes}
    return Tuning(Schedule(target.name, choices), tuple(shapes))


def _shape(key: str, group: list[Decision], calls: KernelCalls) -> Shape:
    """Screens all candidates of a shape, then compares the best few with the default more closely."""
    first = group[0]
    found = [calls.call(candidate.spec, first.constants) for candidate in first.candidates]
    screened = np.median(take_turns(found, _SCREEN_ROUNDS), axis=0)
    order = [int(place) for place in np.argsort(screened, kind="stable")]
    finalists = [0, *[place for place in order if place][:_FINALISTS]]
    times = take_turns([found[place] for place in finalists], _FINAL_ROUNDS)
    ratios = np.median(times / times[:, :1], axis=0)
    winner = int(np.argmin(ratios))
    if ratios[winner] > _SURE:
        winner = 0
    return Shape(
        key=key,
        layers=tuple(decision.layer for decision in group),
        default=first.candidates[0].label,
        best=first.candidates[finalists[winner]].label,
        ratio=float(1 / ratios[winner]),
        seconds=float(np.median(times[:, 0])),
        tried=len(found),
    )
