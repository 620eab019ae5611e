"""Keeping single layers at 8 bits, as few weights as possible, so that the final output errs within a budget.

With all layers at 8 bits, each one alone gets its narrow weights: what that costs, per weight, is the order in which
layers become narrow. Where errors are small they nearly add up, which they don't where every layer is narrow already.
How many layers may be narrow is found by bisection, with all of them measured together; then those behind that still
fit by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from edgeq.quantize.error.judge import Judge
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import LayerPolicy

#: Width of the layers that are kept.
KEPT_BITS = 8


def keep_within(
    plan: Plan,
    judge: Judge,
    wide: Mapping[str, QuantizedWeights],
    budget: float,
) -> Plan:
    """The plan with as few weights at 8 bits as bring the final output's error within a budget.

    Args:
        plan: with narrow weights. judge: measures the error.
        wide: by layer name, 8-bit weights of the layers that have fewer bits.
        budget: normalised squared error of the final output, over that of the network with all of `wide`.

    Returns:
        the plan; its policy says 8 bits for the layers that are kept. All of them, where less isn't enough.
    """
    error = judge.trial(plan)
    least = error(wide)
    allowed = budget + least
    if error({}) <= allowed:
        return plan
    alone = {name: error(_without(wide, [name])) - least for name in wide}
    order = sorted(alone, key=lambda name: alone[name] / wide[name].values.size)

    def measured(narrow: Sequence[str]) -> float:
        return error(_without(wide, narrow))

    narrow, reached = _longest(order, measured, allowed, least)
    for name in order[len(narrow) + 1 :]:
        if reached + alone[name] <= allowed and (found := measured([*narrow, name])) <= allowed:
            narrow, reached = [*narrow, name], found
    return _with(plan, _without(wide, narrow))


def _longest(
    order: Sequence[str], measured: Callable[[Sequence[str]], float], allowed: float, least: float
) -> tuple[list[str], float]:
    """The longest start of `order` that may be narrow, by bisection, and its error; the whole is known not to be."""
    fits, fails, reached = 0, len(order), least
    while fails - fits > 1:
        middle = (fits + fails) // 2
        found = measured(order[:middle])
        if found <= allowed:
            fits, reached = middle, found
        else:
            fails = middle
    return list(order[:fits]), reached


def _without(wide: Mapping[str, QuantizedWeights], names: Iterable[str]) -> dict[str, QuantizedWeights]:
    left_out = set(names)
    return {name: weights for name, weights in wide.items() if name not in left_out}


def _with(plan: Plan, kept: Mapping[str, QuantizedWeights]) -> Plan:
    from edgeq.quantize.kinds import only

    result = plan.with_weights({**plan.weights, **kept})
    layers = {only(name): LayerPolicy(weight_bits=KEPT_BITS) for name in kept}
    result.policy = plan.policy.model_copy(update={"layers": {**plan.policy.layers, **layers}})
    return result
