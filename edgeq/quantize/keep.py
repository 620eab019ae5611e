"""Keeping single layers at 8 bits: those whose narrow weights the final output feels most, until it errs little enough.

Each layer alone gets its 8-bit weights back; what that saves of the final output's error, per layer, is the order in
which they are kept. The error itself is measured anew after each step, with all layers together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.judge import Judge
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import LayerPolicy

#: Layers tried at once between two measurements, as a share of those that are left.
_STRIDE = 0.1
#: Width of the layers that are kept.
KEPT_BITS = 8


def keep_within(
    plan: Plan,
    judge: Judge,
    wide: Mapping[str, QuantizedWeights],
    budget: float,
) -> Plan:
    """The plan with as few layers at 8 bits as bring the final output's error within a budget.

    Args:
        plan: with narrow weights. judge: measures the error.
        wide: by layer name, 8-bit weights of the layers that have fewer bits.
        budget: normalised squared error of the final output, over that of the network with all of `wide`.

    Returns:
        the plan; its policy says 8 bits for the layers that are kept. All of them, where less isn't enough.
    """
    allowed = budget + judge.error(_with(plan, wide, list(wide)))
    if judge.error(plan) <= allowed:
        return plan
    alone = {name: judge.error(_with(plan, wide, [name])) for name in wide}
    order = sorted(alone, key=lambda name: alone[name])
    count = 0
    while count < len(order):
        count += max(1, int(_STRIDE * (len(order) - count)))
        found = _with(plan, wide, order[:count])
        if judge.error(found) <= allowed:
            return found
    return _with(plan, wide, order)


def _with(plan: Plan, wide: Mapping[str, QuantizedWeights], names: Sequence[str]) -> Plan:
    from edgeq.quantize.kinds import only

    result = plan.with_weights({**plan.weights, **{name: wide[name] for name in names}})
    layers = {only(name): LayerPolicy(weight_bits=KEPT_BITS) for name in names}
    result.policy = plan.policy.model_copy(update={"layers": {**plan.policy.layers, **layers}})
    return result
