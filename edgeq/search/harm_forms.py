"""What other forms than those of weights do to the final output: on the integer arithmetic, compiled for this machine.

Two forms of a requantization differ in the last bit here and there, and neither is right: what they make of the output
is apart by more than either is worse. So all places are changed together first. How much farther from the float model's
outputs the network then is, is what the form costs; no more than that is shared out, after what each place alone moves
the output by. Where it is next to nothing nobody asks which place it comes from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.cache import content_key
from edgeq.search.judge import divergence_of
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import WIDEST, Choice, Place, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder

KIND = "form"
#: Most samples that outputs are compared on.
SAMPLES = 64
#: Divergence (nats) of several places together that isn't told apart, or that share of all places' where it is more.
NEGLIGIBLE, SMALL_SHARE = 1e-4, 0.05

Outputs = list[NDArray[Any]]


def form_harm(
    problem: Problem,
    wanted: Space,
    space: Space,
    store: Store,
    builder: KernelBuilder,
    threads: int = 4,
    progress: Progress | None = None,
) -> dict[str, dict[Choice, float]]:
    """Place → {form: divergence of the final output}, for all that isn't weights: 0 for the finest, rising.

    Args:
        problem: what to measure. wanted: all places that are changed together, whether or not a form of theirs is in
            `space`: what one target has no use for counts in the same way on every other.
        space: places and forms to measure. store: what was measured before is taken from it.
        builder: code generators. threads: samples run at a time.
    """
    asked = {form for place in space.others for form in place.forms if form != place.base}
    groups: dict[tuple[bool, Choice], list[Place]] = {}
    for place in wanted.others:
        for form in place.forms:
            if form in asked and form != place.base:
                finer = place.forms.index(form) < place.forms.index(place.base)
                groups.setdefault((finer, form), []).append(place)
    meter = _Meter(problem, wanted, store, builder, threads)
    moved: dict[str, dict[Choice, float]] = {place.name: {} for place in wanted.others}
    for done, ((finer, form), places) in enumerate(groups.items(), start=1):
        for name, value in meter.lost(places, form, finer).items():
            moved[name][form] = value
        if progress:
            progress("forms", done, len(groups))
    return {place.name: _rising(place, moved[place.name]) for place in space.others}


def _rising(place: Place, lost: Mapping[Choice, float]) -> dict[Choice, float]:
    """What forms lose or win beside the usual one, as a loss against the finest: never less for coarser ones."""
    usual = place.forms.index(place.base)
    start = max((lost[form] for form in place.forms[:usual]), default=0.0)
    row: dict[Choice, float] = {}
    worst = 0.0
    for index, form in enumerate(place.forms):
        amount = start - lost[form] if index < usual else start + lost.get(form, 0.0)
        worst = row[form] = 0.0 if index == 0 else max(worst, amount)
    return row


class _Meter:
    """Divergences of networks with some forms changed, from the store or measured.

    Args:
        wanted: the places. store: keeps every divergence as soon as it is known.
    """

    def __init__(self, problem: Problem, wanted: Space, store: Store, builder: KernelBuilder, threads: int) -> None:
        self._problem, self._usual_forms, self._store = problem, wanted.uniform(WIDEST), store
        self._builder, self._threads = builder, threads
        data = problem.prepared.data
        rows = np.unique(np.linspace(0, len(data) - 1, SAMPLES).astype(int))
        self._inputs = {name: np.ascontiguousarray(array[rows]) for name, array in data.arrays.items()}

    def lost(self, places: Sequence[Place], form: Choice, finer: bool) -> dict[str, float]:
        """By place what its form loses beside the usual one, or, if it is a finer one, what it wins; not negative."""
        changed = {place.name: form for place in places}
        moved, apart = self._divergences(changed)
        _, usual = self._divergences({})
        whole = min(max(usual - apart if finer else apart - usual, 0.0), moved)
        if len(places) == 1 or whole <= NEGLIGIBLE:
            return dict.fromkeys(changed, whole / len(places))
        each = self._apart(list(changed), form, moved, max(NEGLIGIBLE, SMALL_SHARE * moved))
        total = sum(each.values())
        return {name: whole * value / total if total > 0 else whole / len(each) for name, value in each.items()}

    def _apart(self, names: list[str], form: Choice, moved: float, enough: float) -> dict[str, float]:
        """What each place moves the output by; some that do little together share it."""
        if len(names) == 1 or moved <= enough:
            return dict.fromkeys(names, moved / len(names))
        middle = len(names) // 2
        halves = (names[:middle], names[middle:])
        found: dict[str, float] = {}
        for half in halves:
            found |= self._apart(half, form, self._divergences(dict.fromkeys(half, form))[0], enough)
        return found

    def _divergences(self, changed: Mapping[str, Choice]) -> tuple[float, float]:
        """Of a network with some forms changed: from the usual network, and from the float model."""
        said = [f"{name}={form}" for name, form in sorted(changed.items())]
        key = content_key([self._problem.quantization, *said])
        known = self._store.get(KIND, key)
        if known is None:
            outputs = self._run(changed) if changed else self._usual
            known = [self._divergence(self._usual, outputs), self._divergence(self._float, outputs)]
            self._store.put(KIND, key, known)
        return float(known[0]), float(known[1])

    def _divergence(self, reference: Outputs, outputs: Outputs) -> float:
        pairs = zip(reference, outputs, self._problem.classes, strict=True)
        return max(divergence_of(one, other, classes) for one, other, classes in pairs)

    @cached_property
    def _usual(self) -> Outputs:
        return self._run({})

    @cached_property
    def _float(self) -> Outputs:
        from edgeq.evaluate.models import Port, in_batches
        from edgeq.quantize.session import Session, model_with_outputs
        from edgeq.quantize.topology import name_of

        topology = self._problem.prepared.plan.topology
        names = [name_of(value) for value in topology.graph.outputs]
        session = Session(model_with_outputs(topology.model, names), names)
        ports = [Port(spec.name, spec.shape, spec.dtype.name) for spec in self._problem.prepared.data.specs]
        found = in_batches(ports, self._inputs, lambda batch: dict(zip(names, session.run(batch), strict=True)))
        return [found[name] for name in names]

    def _run(self, changed: Mapping[str, Choice]) -> Outputs:
        from edgeq.compiler.target import load_target
        from edgeq.evaluate.models import ArtifactModel

        with tempfile.TemporaryDirectory(prefix="edgeq-forms-") as folder:
            path = Path(folder) / "model.edgeq"
            self._problem.artifact({**self._usual_forms, **changed}, load_target("host"), path, self._builder)
            return list(ArtifactModel(path, self._threads).run(self._inputs).values())
