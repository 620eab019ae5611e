"""Diagnosis of a float model's quantization: guilty layers, their errors, remedies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeq.diagnose.cost import Cost, cost_of
from edgeq.diagnose.guilt import Guilt, find_guilty
from edgeq.diagnose.layers import LayerError, layer_errors
from edgeq.diagnose.outcome import Outcome, Referee
from edgeq.diagnose.remedies import Pharmacy, Remedy, find_remedies
from edgeq.errors import UsageError
from edgeq.quantize.error.judge import split
from edgeq.quantize.integerize import build
from edgeq.quantize.pipeline import QuantizeOptions, prepare
from edgeq.quantize.promote import affordable_samples
from edgeq.quantize.recipe import refine, steps_of
from edgeq.quantize.samples.data import CalibrationData

if TYPE_CHECKING:
    from edgeq.compiler.target import Target
    from edgeq.frontend.graph import FloatGraph

#: Layers that make this part of the guilt together are named as the cause.
CAUSE = 0.8
MOST_NAMED = 5


@dataclass(frozen=True)
class Diagnosis:
    """What `edgeq debug` found.

    Attributes:
        observer, samples, judged: of the quantization: observer, calibration samples, samples the outcome is from.
        target: name, or None. outcome, cost: of the network as it is. budget: error that counts as enough.
        layers: in order. guilty: worst first. remedies: best first.
    """

    observer: str
    samples: int
    judged: int
    target: str | None
    outcome: Outcome
    cost: Cost
    budget: float
    layers: Sequence[LayerError]
    guilty: Sequence[Guilt]
    remedies: Sequence[Remedy]

    @property
    def cause(self) -> list[Guilt]:
        """The layers to name: they make CAUSE of the guilt together, MOST_NAMED at most."""
        whole, named, made = sum(g.total for g in self.guilty), list[Guilt](), 0.0
        for guilt in self.guilty[:MOST_NAMED]:
            if made >= CAUSE * whole:
                break
            named.append(guilt)
            made += guilt.total
        return named

    @property
    def cheapest(self) -> Remedy | None:
        """Of the remedies that are enough the one that costs least."""
        enough = [remedy for remedy in self.remedies if remedy.is_enough and remedy.helps]
        return min(enough, key=lambda r: (r.cost.products or 0.0, r.cost.constants), default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        result = asdict(self)
        result["cause"] = [guilt.layer for guilt in self.cause]
        for row, remedy in zip(result["remedies"], self.remedies, strict=True):
            row["flags"], row["policy"] = remedy.change.flags(), remedy.change.policy_text()
        result["cheapest"] = self.cheapest.name if self.cheapest else None
        return result


def debug(
    graph: FloatGraph,
    data: CalibrationData,
    options: QuantizeOptions | None = None,
    *,
    target: Target | None = None,
    thorough: bool = False,
) -> Diagnosis:
    """Find out which layers make the error of the output, and what would help.

    Args:
        graph: from `edgeq.frontend.load`. data: checked calibration data.
        options: how it is quantized. None: everything in 8 bits, weights to nearest, nothing promoted: what int8 alone
            does to the model.
        target: for the cost of remedies. thorough: try the remedies that take minutes as well.

    Raises:
        UsageError: random data. Others as of `edgeq.quantize.quantize`.
    """
    if not data.calibrated:
        raise UsageError(
            "a diagnosis needs real data",
            where="--calib random",
            why="on noise every layer looks guilty",
            hint="give --calib with a few dozen typical inputs",
        )
    chosen = options or QuantizeOptions(promote=False, recipe="fast")
    start = prepare(graph, data, chosen)
    steps = steps_of(chosen.recipe, chosen.steps)
    again = lambda other: prepare(other, data, replace(chosen, progress=None))  # noqa: E731
    start, _ = refine(start, steps, chosen.threads, chosen.progress, again, chosen.weight_budget)
    fit, held = split(data)
    plan, built = start.plan, build(start.plan)
    few = held[: affordable_samples(plan.topology)]
    layers = layer_errors(plan, built, few, chosen.threads, chosen.progress)
    guilty = find_guilty(plan, few, chosen.threads, chosen.progress)
    referee = Referee(plan.topology, held, chosen.threads)
    outcome = referee.judge(built, plan.topology)
    pharmacy = Pharmacy(start, chosen, fit, referee, target)
    remedies = find_remedies(pharmacy, guilty, outcome, thorough, chosen.progress)
    return Diagnosis(
        observer=plan.ranges.observer,
        samples=len(data),
        judged=len(referee.samples),
        target=target.name if target else None,
        outcome=outcome,
        cost=cost_of(built.graph, target),
        budget=pharmacy.budget,
        layers=layers,
        guilty=guilty,
        remedies=remedies,
    )
