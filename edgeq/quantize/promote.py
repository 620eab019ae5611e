"""Which tensors need 16 bits, without labels: look at the error each one causes in the final output.

The rule: round one tensor to int8, keep everything else float, and take the normalised squared error of the final
output; promote the worst until the error of all the others together is within a budget (.01; .03 in networks with more
than 100 tensors).

An input that causes more than half of the whole error by itself is promoted even within the budget, as long as the
error is not negligible (a tenth of the budget): spectra and other measurements with a wide range lose in int8 what no
later layer brings back, and only the first layer pays for 16 bits.

Where more than a third of the budget remains, two sets of tensors are tried as a whole: what the first layers write,
and what sums read (`weak.py`). They cost little time, and are promoted where that takes enough off the error.

The errors of single tensors nearly add up, so groups of tensors are rounded together first. Only a group that matters
is split further, worst first; a network that is within the budget as a whole costs a single measurement.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.simulate import Simulation, largest_error
from edgeq.quantize.logits import SOFTMAX
from edgeq.quantize.plan import Plan
from edgeq.quantize.samples.data import CalibrationData
from edgeq.quantize.topology import Topology, is_float, name_of, shape_of
from edgeq.quantize.weak import weak_sets

#: Largest error that may remain, and the same for networks with more than MANY tensors.
BUDGET, BUDGET_MANY, MANY = 0.01, 0.03, 100
#: Share of the whole error from which an input is promoted, and the part of the budget below which none is.
DOMINANT, NEGLIGIBLE = 0.5, 0.1
#: Share of the budget below which no set is promoted, and the share of the error that one must save.
WANTED, WORTH = 0.35, 0.12
#: Fewest and most samples the error is measured on, and the number of activations to spend on one measurement: small
#: networks can afford more samples, and need them.
SAMPLES, SAMPLES_MANY, ACTIVATIONS = 4, 32, 32_000_000
#: Groups the tensors are first divided into.
GROUPS = 16


@dataclass(frozen=True)
class Promotion:
    """Outcome of the search.

    Attributes:
        groups: representatives of the type groups to promote, with the error each causes alone, worst first; those
            promoted as a set share what it saves.
        before: error of the final output with every candidate in s8.
        after: error that remains.
        budget: what was allowed.
        measurements: how often the network was evaluated.
    """

    groups: Mapping[str, float] = field(default_factory=dict)
    before: float = 0.0
    after: float = 0.0
    budget: float = BUDGET
    measurements: int = 0


def promote(
    plan: Plan,
    data: CalibrationData,
    *,
    budget: float | None = None,
    samples: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Promotion:
    """Find the tensors to keep in s16.

    Args:
        plan: quantization with nothing promoted yet.
        data: calibration data; a few samples of it are used.
        budget: normalised squared error of the final output that may remain; None = the rule's.
        samples: how many samples to judge by; None = 4 to 32, more for smaller networks.
        threads: samples run at a time.
        progress: called with (stage, done, total).
    """
    candidates = plan.candidates()
    if not candidates:
        return Promotion()
    allowed = budget if budget is not None else (BUDGET_MANY if len(candidates) > MANY else BUDGET)
    groups = {group: {value: plan.s8(value) for value in values} for group, values in candidates.items()}
    simulation = Simulation(plan.topology.model, groups, final_outputs(plan.topology))
    feeds = list(data.feeds(samples or affordable_samples(plan.topology)))
    reference = simulation.run(feeds, (), threads)

    def measure(active: Sequence[str]) -> float:
        return largest_error(reference, simulation.run(feeds, active, threads))

    inputs = [group for group, values in candidates.items() if any(v not in plan.topology.producer for v in values)]
    found = _Search(measure, allowed, inputs, progress).run(list(groups))
    return found if found.after > allowed else _with_sets(found, list(groups), weak_sets(plan), measure)


def _with_sets(
    found: Promotion,
    groups: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    measure: Callable[[Sequence[str]], float],
) -> Promotion:
    """Promote each set that takes enough off what error remains."""
    for members in sets.values():
        fresh = [group for group in members if group not in found.groups]
        if found.after <= WANTED * found.budget or not fresh:
            continue
        after = measure([group for group in groups if group not in found.groups and group not in fresh])
        found = replace(found, measurements=found.measurements + 1)
        if after < (1 - WORTH) * found.after:
            shares = dict.fromkeys(fresh, (found.after - after) / len(fresh))
            found = replace(found, groups={**found.groups, **shares}, after=after)
    return found


def affordable_samples(topology: Topology) -> int:
    """Samples for one measurement, from the size of the network (not from a clock: results must not depend on it)."""
    return max(SAMPLES, min(SAMPLES_MANY, ACTIVATIONS // max(1, activations_of(topology))))


def activations_of(topology: Topology) -> int:
    """Values that one inference computes."""
    return sum(math.prod(shape_of(value)) for value in topology.values())


def final_outputs(topology: Topology) -> list[str]:
    """Float values whose error counts: the graph's outputs; in front of a Softmax or ArgMax, what it reads."""
    result = []
    for output in topology.graph.outputs:
        value = output
        layer = topology.producer.get(name_of(value))
        while layer is not None and layer.op in (*SOFTMAX, "ArgMax") and layer.inputs:
            value = layer.inputs[0]
            layer = topology.producer.get(name_of(value))
        if is_float(value):
            result.append(name_of(value))
    return list(dict.fromkeys(result))


class _Search:
    """Best-first splitting of groups of tensors."""

    def __init__(
        self,
        measure: Callable[[Sequence[str]], float],
        budget: float,
        inputs: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self._measure, self._budget, self._inputs, self._progress = measure, budget, inputs, progress
        self._measurements = 0
        self._promoted: dict[str, float] = {}
        #: (−error, running number, members): the heap yields the worst group first.
        self._heap: list[tuple[float, int, list[str]]] = []

    def run(self, tensors: list[str]) -> Promotion:
        before = after = self._error(tensors)
        if NEGLIGIBLE * self._budget < before <= self._budget:
            after = self._promote_dominant_input(tensors, before)
        elif before > self._budget:
            size = -(-len(tensors) // GROUPS)
            for start in range(0, len(tensors), size):
                self._push(tensors[start : start + size])
        while after > self._budget and self._heap:
            self._promote_worst()
            after = self._error([name for _, _, members in self._heap for name in members])
            if self._progress:
                self._progress("promote", round(100 * self._budget / max(self._budget, after)), 100)
        worst_first = dict(sorted(self._promoted.items(), key=lambda item: -item[1]))
        return Promotion(worst_first, before, after, self._budget, self._measurements)

    def _promote_dominant_input(self, tensors: list[str], whole: float) -> float:
        """Promote the input that makes more than half of the error, if there is one; returns what error remains."""
        for name in self._inputs:
            error = self._error([name])
            if error > DOMINANT * whole:
                self._promoted[name] = error
                return self._error([other for other in tensors if other != name])
        return whole

    def _promote_worst(self) -> None:
        """Split the worst group until a single tensor is the worst, and promote that."""
        error, _, members = heapq.heappop(self._heap)
        while len(members) > 1:
            middle = len(members) // 2
            self._push(members[:middle])
            self._push(members[middle:])
            error, _, members = heapq.heappop(self._heap)
        self._promoted[members[0]] = -error

    def _push(self, members: list[str]) -> None:
        heapq.heappush(self._heap, (-self._error(members), self._measurements, members))

    def _error(self, members: Sequence[str]) -> float:
        if not members:
            return 0.0
        self._measurements += 1
        return self._measure(members)
