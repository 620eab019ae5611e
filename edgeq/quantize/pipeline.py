"""The whole way: check, calibrate, plan, promote, integerize, compare."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgeq.errors import ModelError, UsageError
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.proof import prove
from edgeq.quantize.calibrate import Progress, Ranges, as_data, calibrate
from edgeq.quantize.integerize import build, check_supported
from edgeq.quantize.kinds import resolve, with_weight_bits
from edgeq.quantize.logits import rounded_attention
from edgeq.quantize.observers import DEFAULT, get
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import Policy
from edgeq.quantize.promote import Promotion, promote
from edgeq.quantize.recipe import DEFAULT as DEFAULT_RECIPE
from edgeq.quantize.recipe import refine, steps_of
from edgeq.quantize.report import QuantizeReport, StepReport, compare_outputs, layer_reports, promoted_tensors
from edgeq.quantize.samples.data import CalibrationData
from edgeq.quantize.topology import Topology, name_of, shape_of

if TYPE_CHECKING:
    from edgeq.frontend.graph import FloatGraph

Array = NDArray[Any]


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize.

    Attributes:
        observer: one of edgeq.quantize.observers.OBSERVERS; the policy may choose others per layer.
        policy: per-layer choices, None = defaults.
        recipe: fast, default or best (recipe.py): which steps are tried to lower the final output's error.
        steps: names of the steps instead of a recipe's.
        weight_bits: 2 … 8, of all weights for which the policy names no layer; None = 8.
        edge_bits: of first, last and depthwise layers; None = 8 where weight_bits is less than 7.
        weight_budget: normalised squared error that narrow weights may add to the final output; layers that cost most
            are kept at 8 bits for it. None: none is.
        promote: keep in s16 the tensors that the label-free rule finds (never on random data).
        promotion_budget: normalised error of the final output that may remain, None = .01 (.03 above 100 tensors).
        promotion_samples: samples the rule looks at, None = 4 to 32, more for smaller networks.
        bias_correction: move the mean effect of rounding the weights into the bias.
        compare_samples: calibration samples on which the integer graph is compared with the float graph; 0 = don't.
        seed: of random data.
        threads: samples run at a time, None = one per core.
        progress: called with (stage, done, total) now and then; stages: calibrate, promote, recipe, compare.
    """

    observer: str = DEFAULT
    policy: Policy | None = None
    recipe: str = DEFAULT_RECIPE
    steps: tuple[str, ...] | None = None
    weight_bits: int | None = None
    edge_bits: int | None = None
    weight_budget: float | None = None
    promote: bool = True
    promotion_budget: float | None = None
    promotion_samples: int | None = None
    bias_correction: bool = True
    compare_samples: int = 16
    seed: int = 0
    threads: int | None = None
    progress: Progress | None = None

    @classmethod
    def make(
        cls,
        *,
        observer: str | None = None,
        policy: str | Path | Policy | None = None,
        recipe: str | None = None,
        steps: str | Sequence[str] | None = None,
        allow_float: bool = False,
        progress: Progress | None = None,
        **more: Any,
    ) -> QuantizeOptions:
        """Options as they come from outside: names and files.

        Args:
            observer: name, None = default.
            policy: a YAML file, or a Policy.
            recipe: name, None = default. steps: names, or one text with commas; None = the recipe's.
            allow_float: refused: integer graphs have no float islands.
            progress: called with (stage, done, total).
            more: further fields.

        Raises:
            UsageError: unknown observer, recipe or step, or allow_float. PolicyError: the policy is wrong.
        """
        if allow_float:
            raise UsageError(
                "float islands are not available",
                where="--allow-float",
                why="every op of an integer graph is an integer op",
                hint="replace the op the message without --allow-float names, or cut the model in front of it",
            )
        name = observer or DEFAULT
        get(name)
        chosen = policy if isinstance(policy, Policy) or policy is None else Policy.load(policy)
        listed = None if steps is None else tuple(steps.split(",") if isinstance(steps, str) else steps)
        plan = recipe or DEFAULT_RECIPE
        steps_of(plan, listed)
        return cls(observer=name, policy=chosen, recipe=plan, steps=listed, progress=progress, **more)


@dataclass(frozen=True)
class QuantizeResult:
    """The integer graph and what there is to say about it; `others`: the model at other shapes, same arithmetic."""

    graph: IntegerGraph
    report: QuantizeReport
    others: tuple[IntegerGraph, ...] = ()


@dataclass
class _Stopwatch:
    """Seconds per named stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 4)


@dataclass(frozen=True)
class Prepared:
    """A network calibrated and planned, every weight still to be rounded.

    Attributes:
        plan: type, scale and zero point of every tensor. data: checked calibration data.
        promotion: which tensors have 16 bits and why. seconds: time per stage.
    """

    plan: Plan
    data: CalibrationData
    promotion: Promotion
    seconds: Mapping[str, float]


def prepare(
    graph: FloatGraph,
    data: Mapping[str, Array] | CalibrationData | None = None,
    options: QuantizeOptions | None = None,
) -> Prepared:
    """Check, calibrate, plan and promote: what every search over weights starts from.

    Arguments and errors as of `quantize`.
    """
    chosen = options or QuantizeOptions()
    topology, watch = Topology(graph), _Stopwatch()
    check_supported(topology)
    policy = _policy(topology, chosen)
    samples = as_data(graph, data, chosen.seed)
    with watch.stage("calibrate"):
        ranges = calibrate(graph, samples, chosen.observer, threads=chosen.threads, progress=chosen.progress)
    if not chosen.bias_correction:
        ranges = replace(ranges, means={})
    with watch.stage("promote"):
        promotion = _promotion(Plan(topology, ranges, policy), samples, chosen)
    return Prepared(Plan(topology, ranges, policy, promotion.groups), samples, promotion, watch.seconds)


def quantize(
    graph: FloatGraph,
    data: Mapping[str, Array] | CalibrationData | None = None,
    options: QuantizeOptions | None = None,
    others: Sequence[FloatGraph] = (),
) -> QuantizeResult:
    """Quantize a float graph to an integer graph.

    Args:
        graph: from `edgeq.frontend.load`.
        data: {input name: [samples, *shape without batch]}, or what `edgeq.quantize.load_data` gives; None = random
            data: the graph is then marked as not calibrated.
        options: see QuantizeOptions.
        others: the same model at other input shapes: they get the ranges, types and scales found on `graph`.

    Raises:
        DataError: calibration data that doesn't fit.
        PolicyError: the policy names a layer that isn't in the model.
        UnsupportedOpError: an op without integer form.
        UsageError: unknown recipe or step, a width outside 2 … 8.
        CompileError: sums that could leave 32 bits.
    """
    chosen = options or QuantizeOptions()
    steps = steps_of(chosen.recipe, chosen.steps)
    prepared = prepare(graph, data, chosen)
    watch, tried = _Stopwatch(dict(prepared.seconds)), list[StepReport]()
    if prepared.data.calibrated:
        with watch.stage("recipe"):
            again = again_with(prepared.data, chosen) if not others else None
            prepared, tried = refine(prepared, steps, chosen.threads, chosen.progress, again, chosen.weight_budget)
    plan, samples, promotion = prepared.plan, prepared.data, prepared.promotion
    ranges = plan.ranges
    plans = [plan, *_plans(plan, others)]
    with watch.stage("integerize"):
        # Largest first: its constants hold those of the others, and decide their scale.
        order = sorted(range(len(plans)), key=lambda index: -_elements(plans[index].topology))
        all_built = {index: build(plans[index]) for index in order}
        for one in all_built.values():
            prove(one.graph)
        built = all_built[0]
    with watch.stage("compare"):
        count = min(chosen.compare_samples, samples.runs)
        outputs = compare_outputs(plan, built.graph, samples, count, chosen.threads, chosen.progress) if count else []
    report = QuantizeReport(
        calibrated=ranges.calibrated,
        samples=ranges.samples,
        source=ranges.source,
        observer=ranges.observer,
        layers=layer_reports(plan, built),
        outputs=outputs,
        compared=count,
        promoted=promoted_tensors(plan, promotion),
        promotion_error=(promotion.before, promotion.after, promotion.budget),
        seconds=watch.seconds,
        recipe=chosen.recipe if chosen.steps is None else "custom",
        steps=tried,
        warnings=_warnings(ranges, promotion) + rounded_attention(plan.topology) + _left_out(tried),
    )
    return QuantizeResult(built.graph, report, tuple(all_built[index].graph for index in range(1, len(plans))))


def _plans(plan: Plan, others: Sequence[FloatGraph]) -> list[Plan]:
    """Plans with the scales of `plan` for the same model at other shapes."""
    known = {name_of(value) for value in plan.topology.values()}
    plans = []
    for topology in map(Topology, others):
        strange = {name_of(value) for value in topology.values()} ^ known
        if strange:
            raise ModelError(
                "the model isn't the same at all shapes",
                where=", ".join(sorted(strange)[:3]),
                why="these tensors are there at some of the shapes only, so they have no common scales",
                hint="compile an artifact for each shape",
            )
        plans.append(Plan(topology, plan.ranges, plan.policy, plan.promoted, plan.weights, constants=plan.constants))
    return plans


def _elements(topology: Topology) -> int:
    """Values of all inputs."""
    return sum(math.prod(shape_of(value)) for value in topology.graph.inputs)


def again_with(data: CalibrationData, options: QuantizeOptions) -> Callable[[FloatGraph], Prepared]:
    """Calibrates and plans another graph of the same function."""
    return lambda graph: prepare(graph, data, options)


def _policy(topology: Topology, options: QuantizeOptions) -> Policy:
    """The policy for every layer by name, checked against the model."""
    policy = options.policy or Policy()
    policy.check(topology.names())
    for name, bits in (("weight_bits", options.weight_bits), ("edge_bits", options.edge_bits)):
        if bits is not None and not 2 <= bits <= 8:
            raise UsageError("no such weight width", where=name, why=f"{bits}", hint="weights have 2 to 8 bits")
    if options.weight_bits is not None or options.edge_bits is not None:
        policy = with_weight_bits(policy, options.weight_bits or 8, options.edge_bits)
    return resolve(policy, topology)


def _promotion(plan: Plan, samples: CalibrationData, options: QuantizeOptions) -> Promotion:
    if not options.promote or not samples.calibrated:
        # Errors on random data say nothing about the real ones.
        return Promotion()
    return promote(
        plan,
        samples,
        budget=options.promotion_budget,
        samples=options.promotion_samples,
        threads=options.threads,
        progress=options.progress,
    )


def _left_out(tried: Sequence[StepReport]) -> list[str]:
    return [f"the step {step.name} was left out: {step.note}" for step in tried if step.note]


def _warnings(ranges: Ranges, promotion: Promotion) -> list[str]:
    warnings = list(ranges.warnings)
    if promotion.after > promotion.budget:
        warnings.append(
            f"the output error of the activations stays at {promotion.after:.3g} (budget {promotion.budget:.3g}) even "
            "with every tensor that may be in s16: the policy decides too much, or the model resists quantization"
        )
    return warnings
