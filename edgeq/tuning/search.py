"""The search for a schedule: every shape's candidates in turns, the fastest one is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeq.cache import cache_dir, content_key
from edgeq.compiler.build import KernelBuilder, object_path
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.lower.select.choice import Decision
from edgeq.compiler.schedule import Schedule
from edgeq.compiler.target import Target
from edgeq.files import write_text
from edgeq.integer import prove
from edgeq.integer.graph import IntegerGraph
from edgeq.tuning.calls import Call, KernelCalls, require_runnable, take_turns
from edgeq.tuning.ceilings import processor

Progress = Callable[[str, int, int], None]

_COPIES = 5  # of the code, at different addresses
_SCREEN_ROUNDS, _FINAL_ROUNDS, _FINALISTS = 2, 7, 3
_SURE = 0.97  # the default keeps its place unless another takes less than this of its time


@dataclass(frozen=True)
class Measured:
    """What was measured of a shape.

    Attributes:
        default, best: labels. ratio: default's time / best's (1: the default stays).
        seconds: of one run of the default.
        tried: candidates that were timed.
    """

    default: str
    best: str
    ratio: float
    seconds: float
    tried: int


@dataclass(frozen=True)
class Shape:
    """One shape's result.

    Attributes:
        key: of the schedule. layers: that have it. The others are those of `Measured`.
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


def search(
    graph: IntegerGraph,
    target: Target,
    builder: KernelBuilder,
    progress: Progress | None = None,
    *,
    fresh: bool = False,
) -> Tuning:
    """Times the candidates of every shape of a graph on this machine: dense and depthwise layers, matrix products.

    What was measured of a shape is kept in the cache at once, so that an interrupted search goes on where it was and
    networks share shapes. It holds as long as processor and generated code are the same.

    Args:
        fresh: measure everything again.

    Raises:
        UsageError: the target's code doesn't run here. CompileError: see `compile_graph`.
    """
    require_runnable(target)
    prove(graph)
    groups: dict[str, list[Decision]] = {}
    for decision in lower(graph, target).decisions:
        groups.setdefault(decision.key, []).append(decision)
    places = {key: _place(group[0], target) for key, group in groups.items()}
    found = {} if fresh else {key: known for key, place in places.items() if (known := _read(place)) is not None}
    missing = [key for key in groups if key not in found]
    if missing:
        report = (lambda done, total: progress("kernels", done, total)) if progress else None
        specs = [candidate.spec for key in missing for candidate in groups[key][0].candidates]
        calls = KernelCalls(specs, target, builder, report, copies=_COPIES)
        for number, key in enumerate(missing, start=1):
            found[key] = _measured(groups[key][0], calls)
            write_text(places[key], json.dumps(asdict(found[key])))
            if progress:
                progress("shapes", number, len(missing))
    shapes = [Shape(key, tuple(d.layer for d in group), **asdict(found[key])) for key, group in groups.items()]
    return Tuning(Schedule(target.name, {shape.key: shape.best for shape in shapes}), tuple(shapes))


def _place(decision: Decision, target: Target) -> Path:
    """Where a shape's measurement is kept: by processor, and by its objects' names, which stand for their code."""
    objects = [object_path(candidate.spec, target).name for candidate in decision.candidates]
    rounds = f"{_COPIES} {_SCREEN_ROUNDS} {_FINAL_ROUNDS} {_FINALISTS} {_SURE}"
    return cache_dir("tuned", content_key([processor(), rounds, decision.key, *objects])) / "shape.json"


def _read(place: Path) -> Measured | None:
    """A measurement; one that is damaged counts as absent."""
    try:
        return Measured(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _measured(decision: Decision, calls: KernelCalls) -> Measured:
    """Screens all candidates of a shape, then compares the best few with the default more closely."""
    candidates = decision.candidates
    found = [calls.calls(candidate.spec, decision.constants) for candidate in candidates]
    screened = _seconds(found, _SCREEN_ROUNDS)
    order = [int(place) for place in np.argsort(screened, kind="stable")]
    finalists = [0, *[place for place in order if place][:_FINALISTS]]
    times = _seconds([found[place] for place in finalists], _FINAL_ROUNDS)
    winner = int(np.argmin(times))
    if times[winner] > _SURE * times[0]:
        winner = 0
    return Measured(
        default=candidates[0].label,
        best=candidates[finalists[winner]].label,
        ratio=float(times[0] / times[winner]),
        seconds=float(times[0]),
        tried=len(found),
    )


def _seconds(found: Sequence[Sequence[Call]], rounds: int) -> NDArray[np.float64]:
    """Of one run of each candidate: medians over rounds, all in turns, and then the mean over addresses of its code."""
    times = np.median(take_turns([call for copies in found for call in copies], rounds), axis=0)
    return np.asarray(times.reshape(len(found), -1).mean(axis=1))
