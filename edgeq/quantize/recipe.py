"""Recipes: which steps are tried behind calibration and promotion, each kept only if the final output errs less.

fast      nothing: weights rounded to nearest, the mean effect of rounding in the bias
default   gptq
best      observer, gptq, migrate, equalize, ranges, distill
by name   sequential, adaround: where distill can't be had, or its time

A step must save a tenth of the error. It is judged on calibration samples it was not fitted to (every fourth one, where
there are at least 16). What all steps together have given is compared with plain rounding once more, on the integer
graph itself.
"""

from __future__ import annotations

import difflib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeq.errors import ToolError, UnsupportedOpError, UsageError
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.judge import Array, Judge, split
from edgeq.quantize.error.keep import KEPT_BITS, keep_within
from edgeq.quantize.integerize import build
from edgeq.quantize.observers import DEFAULT as DEFAULT_OBSERVER
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, bits_of, brought_along, products
from edgeq.quantize.ranges import choose_observers
from edgeq.quantize.report import StepReport
from edgeq.quantize.rounding.sequential import moments, round_in_order
from edgeq.quantize.rounding.solve import solve_all
from edgeq.quantize.scaling.equalize import equalize
from edgeq.quantize.scaling.migrate import migrate

if TYPE_CHECKING:
    from edgeq.frontend.graph import FloatGraph
    from edgeq.quantize.pipeline import Prepared

RECIPES: dict[str, tuple[str, ...]] = {
    "fast": (),
    "default": ("gptq",),
    "best": ("observer", "gptq", "migrate", "equalize", "ranges", "distill"),
}
DEFAULT = "default"
#: What `observer` tries instead of the quantizer's own: it loses least where a tensor's few largest values matter.
OTHER_OBSERVER = "percentile"
#: Share of the error that a step must save: less is within the noise of the few samples it is judged on.
MARGIN = 0.1
#: Steps that come behind the choice of layers to keep at 8 bits.
LATE = ("distill",)


@dataclass(frozen=True)
class Context:
    """What a step may use: samples to fit on, threads, and the way from another float graph to its plan (None where
    the graph must stay what it is)."""

    samples: list[dict[str, Array]]
    threads: int | None
    prepare: Callable[[FloatGraph], Prepared] | None = None


def steps_of(recipe: str, steps: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the steps, in order.

    Raises:
        UsageError: unknown recipe or step. ToolError: a step asked for by name needs torch, which isn't there.
    """
    if recipe not in RECIPES:
        raise _unknown("recipe", recipe, list(RECIPES))
    for step in steps or ():
        if step not in STEPS:
            raise _unknown("step", step, list(STEPS))
    if "distill" in (steps or ()):
        _need_torch()
    wanted = set(RECIPES[recipe] if steps is None else steps)
    return tuple(step for step in STEPS if step in wanted)


def _unknown(what: str, name: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(
        f"unknown {what} {name!r}", where=f"option {what}", hint=f"{hint}known {what}s: {', '.join(known)}"
    )


def refine(
    start: Prepared,
    steps: tuple[str, ...],
    threads: int | None = None,
    progress: Progress | None = None,
    prepare: Callable[[FloatGraph], Prepared] | None = None,
    budget: float | None = None,
) -> tuple[Prepared, list[StepReport]]:
    """Apply the steps that lower the error of the final output.

    Args:
        start: calibrated and planned. steps: names, see `steps_of`.
        threads: samples run at a time. progress: called with (stage, done, total).
        prepare: calibrates and plans another graph of the same function; None: the graph stays what it is.
        budget: error that narrow weights may add to the final output; single layers are kept at 8 bits for it.

    Returns:
        what came out, and what was tried.
    """
    fit, held = split(start.data)
    context = Context(fit, threads, prepare)
    if not steps and budget is None:
        return _with_decided(start, context), []
    judge = Judge(start.plan.topology, held, threads)
    # Which layers are kept at 8 bits is decided before weights are fitted to one another.
    late = LATE if budget is not None else ()
    current, reports = _steps(start, [step for step in steps if step not in late], context, judge, progress)
    if budget is not None:
        began, before = time.perf_counter(), judge.error(current.plan)
        current = _kept_wide(current, context, judge, budget, rounding="gptq" if steps else "nearest")
        after = judge.error(current.plan)
        reports.append(StepReport("keep", before, after, after < before, round(time.perf_counter() - began, 4)))
    current, more = _steps(current, [step for step in steps if step in late], context, judge, progress)
    return current, reports + more


def _steps(
    start: Prepared, steps: Sequence[str], context: Context, judge: Judge, progress: Progress | None
) -> tuple[Prepared, list[StepReport]]:
    """Try steps one after the other, and in the end compare with the start on the integer graph itself."""
    given = _with_decided(start, context)
    if not steps:
        return given, []
    current, reports = given, list[StepReport]()
    error = judge.error(current.plan)
    for index, name in enumerate(steps):
        if progress:
            progress("recipe", index, len(steps))
        began = time.perf_counter()
        candidate, note = _tried(name, current, context)
        after = error if candidate is None else judge.error(candidate.plan)
        kept = candidate is not None and after < (1 - MARGIN) * error
        reports.append(StepReport(name, error, after, kept, round(time.perf_counter() - began, 4), note))
        if candidate is not None and kept:
            current, error = candidate, after
    if any(report.kept for report in reports):
        plain, refined = (judge.exact_error(_build(found.plan)) for found in (given, current))
        if refined > plain:
            reports.append(StepReport("integer graph", plain, refined, False, 0.0))
            return given, reports
    return current, reports


def _tried(name: str, current: Prepared, context: Context) -> tuple[Prepared | None, str]:
    """What a step makes of a network; None and why, where it can't be done here."""
    try:
        return STEPS[name](current, context), ""
    except (ToolError, UnsupportedOpError) as error:
        return None, "; ".join(part for part in (error.what, error.where, error.why, error.hint) if part)


def _kept_wide(current: Prepared, context: Context, judge: Judge, budget: float, rounding: str) -> Prepared:
    """Single layers at 8 bits, so that narrow weights add no more than a budget to the error."""
    plan = current.plan
    layers = [product for product in _open(plan) if bits_of(plan, product) < KEPT_BITS]
    if not layers:
        return current
    names = [product.layer.name for product in layers]
    grams = moments(plan, context.samples, layers, context.threads)
    bits, methods, clips = dict.fromkeys(names, KEPT_BITS), dict.fromkeys(names, rounding), dict.fromkeys(names, None)
    wide = solve_all(plan, layers, grams, bits, methods, clips, context.threads)
    return replace(current, plan=keep_within(plan, judge, wide, budget))


def _build(plan: Plan) -> IntegerGraph:
    """The integer graph of a copy of the plan: building settles the ranges of constants, and that is for later."""
    return build(plan.with_weights(plan.weights)).graph


def _open(plan: Plan) -> list[Product]:
    """Layers whose weights a recipe may round: no integers of the model's own, nothing decided by the policy,
    more than a sign."""
    return [
        product
        for product in products(plan.topology)
        if not _decided(plan, product)
        and bits_of(plan, product) > 1
        and brought_along(plan, product, bits_of(plan, product)) is None
    ]


def _decided(plan: Plan, product: Product) -> bool:
    policy = plan.policy.layer(*product.layer.names)
    return bits_of(plan, product) > 1 and (policy.rounding is not None or policy.clip is not None)


def _with_decided(start: Prepared, context: Context) -> Prepared:
    """Layers for which the policy names a rounding or a clipping get it, unasked."""
    layers = [product for product in products(start.plan.topology) if _decided(start.plan, product)]
    if not layers or not start.data.calibrated:
        return start
    policies = {product.layer.name: start.plan.policy.layer(*product.layer.names) for product in layers}
    weights = solve_all(
        start.plan,
        layers,
        moments(start.plan, context.samples, layers, context.threads),
        {product.layer.name: bits_of(start.plan, product) for product in layers},
        {name: policy.rounding or "nearest" for name, policy in policies.items()},
        {name: policy.clip for name, policy in policies.items()},
        context.threads,
    )
    return replace(start, plan=start.plan.with_weights({**start.plan.weights, **weights}))


def _round_all(rounding: str) -> Callable[[Prepared, Context], Prepared | None]:
    """Every layer by itself, on the inputs of the network as it is now."""

    def step(current: Prepared, context: Context) -> Prepared | None:
        plan, layers = current.plan, _open(current.plan)
        if not layers:
            return None
        bits, methods, clips = _choices(plan, layers, rounding)
        grams = moments(plan, context.samples, layers, context.threads)
        weights = solve_all(plan, layers, grams, bits, methods, clips, context.threads)
        return replace(current, plan=plan.with_weights({**plan.weights, **weights}))

    return step


def _in_order(current: Prepared, context: Context) -> Prepared | None:
    """GPTQ layer after layer, each making up for what those in front of it did."""
    plan, layers = current.plan, _open(current.plan)
    if not layers:
        return None
    kept = {name: weights for name, weights in plan.weights.items() if name not in {p.layer.name for p in layers}}
    weights = round_in_order(
        plan.with_weights(kept), context.samples, *_choices(plan, layers, "gptq"), threads=context.threads
    )
    return replace(current, plan=plan.with_weights(weights))


def _distilled(current: Prepared, context: Context) -> Prepared | None:
    """All weights together, the float network as teacher, where some are narrow."""
    plan, layers = current.plan, _open(current.plan)
    if all(bits_of(plan, product) >= KEPT_BITS for product in layers):
        return None
    _need_torch()
    from edgeq.quantize.rounding.distill import distill

    weights = distill(plan, context.samples, layers, threads=context.threads)
    return replace(current, plan=plan.with_weights({**plan.weights, **weights}))


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ToolError("distill needs torch", why="torch is not installed", hint="pip install 'edgeq[qat]'")


def _choices(
    plan: Plan, layers: list[Product], rounding: str
) -> tuple[Mapping[str, int], Mapping[str, str], Mapping[str, str | None]]:
    names = [product.layer.name for product in layers]
    bits = {product.layer.name: bits_of(plan, product) for product in layers}
    return bits, dict.fromkeys(names, rounding), dict.fromkeys(names, None)


def _migrated(current: Prepared, context: Context) -> Prepared | None:
    """Channels with outliers get smaller, the weights that read them larger."""
    graph = migrate(current.plan.topology.source, context.samples, context.threads)
    return None if graph is None or context.prepare is None else _rounded_as(current, context.prepare(graph), context)


def _equalized(current: Prepared, context: Context) -> Prepared | None:
    """Equal ranges for the weights in front of a value and behind it."""
    graph = equalize(current.plan.topology.source)
    return None if graph is None or context.prepare is None else _rounded_as(current, context.prepare(graph), context)


def _observed(current: Prepared, context: Context) -> Prepared | None:
    """Ranges by percentile, where the user named no observer."""
    plan = current.plan
    if plan.ranges.observer != DEFAULT_OBSERVER:
        return None
    return _rounded_as(current, replace(current, plan=_with_observer(plan, OTHER_OBSERVER)), context)


def _ranged(current: Prepared, context: Context) -> Prepared | None:
    """An observer of its own for every tensor that gains by it."""
    plan = choose_observers(current.plan, context.samples, context.threads)
    return None if plan is None else _rounded_as(current, replace(current, plan=plan), context)


def _rounded_as(current: Prepared, made: Prepared, context: Context) -> Prepared:
    """What a step made, rounded by columns where the weights were: what helps plain rounding may harm a better one."""
    observer = current.plan.ranges.observer
    if made.plan.ranges.observer != observer and made.plan.topology is not current.plan.topology:
        made = replace(made, plan=_with_observer(made.plan, observer))
    made = _with_decided(made, context)
    searched = any(product.layer.name in current.plan.weights for product in _open(current.plan))
    return (_round_all("gptq")(made, context) if searched else None) or made


def _with_observer(plan: Plan, observer: str) -> Plan:
    ranges = replace(plan.ranges, observer=observer)
    return Plan(plan.topology, ranges, plan.policy, plan.promoted, constants=dict(plan.constants))


#: By name, in the order they are applied.
STEPS: dict[str, Callable[[Prepared, Context], Prepared | None]] = {
    "observer": _observed,
    "gptq": _round_all("gptq"),
    "migrate": _migrated,
    "equalize": _equalized,
    "ranges": _ranged,
    "sequential": _in_order,
    "adaround": _round_all("adaround"),
    "distill": _distilled,
}
