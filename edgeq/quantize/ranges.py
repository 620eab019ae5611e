"""Choosing how each tensor's range is found, by the error of the final output.

One tensor at a time is rounded with the range of each observer, everything else stays float; the observer with the
least error wins where it is clearly better than the one in use. Scales of inputs that look like pictures, and tensors
the policy decides, stay what they are.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgeq.quantize.error.judge import Judge
from edgeq.quantize.error.simulate import Simulation, largest_error
from edgeq.quantize.plan import S8, Plan, quant_s8
from edgeq.quantize.policy import LayerPolicy
from edgeq.quantize.promote import affordable_samples

Array = NDArray[Any]

CANDIDATES = ("minmax", "percentile", "mse", "l2.4")
#: Share of its error that another observer must save.
GAIN = 0.1


def choose_observers(plan: Plan, samples: list[dict[str, Array]], threads: int | None = None) -> Plan | None:
    """The plan with an observer of its own for every tensor that gains by one; None if none does.

    Args:
        plan: calibrated; its weights are left out of the result, since their scales depend on ranges.
        samples: feeds. threads: samples run at a time.
    """
    tensors = _candidates(plan)
    few = samples[: affordable_samples(plan.topology)]
    judge = Judge(plan.topology, few, threads)
    errors: dict[str, dict[str, float]] = {name: {} for name in tensors}
    for observer in CANDIDATES:
        groups = {name: {name: quant_s8(*plan.group_range(name, observer))} for name in tensors}
        simulation = Simulation(plan.topology.model, groups, judge.outputs)
        for name in tensors:
            outputs = simulation.run(few, (name,), threads)
            errors[name][observer] = largest_error(judge.reference, outputs)
    used = plan.ranges.observer
    chosen = {}
    for name, found in errors.items():
        best = min(found, key=lambda observer: found[observer])
        if best != used and found[best] < (1 - GAIN) * found.get(used, float("inf")):
            chosen[name] = best
    return _with_observers(plan, chosen) if chosen else None


def _candidates(plan: Plan) -> list[str]:
    """One rounded int8 value of every scale group that nothing else decides."""
    seen: dict[str, str] = {}
    for members in plan.candidates().values():
        for name in members:
            tensor = plan.tensor(name)
            plain = tensor.quant.dtype == S8 and tensor.reason == "default" and name not in plan.ranges.images
            if plain and plan.layer_policy(name).observer is None:
                seen.setdefault(plan.ties.scales.find(name), (plan.roots(name) or [name])[0])
    return list(seen.values())


def _with_observers(plan: Plan, chosen: dict[str, str]) -> Plan:
    """The plan anew with some observers in its policy, in front of what the policy says."""
    from edgeq.quantize.kinds import only

    layers = {}
    for name, observer in chosen.items():
        maker = plan.topology.producer.get(name)
        layers[only(maker.name if maker else name)] = LayerPolicy.model_validate({"observer": observer})
    policy = plan.policy.model_copy(update={"layers": {**layers, **plan.policy.layers}})
    return Plan(plan.topology, plan.ranges, policy, plan.promoted, constants=dict(plan.constants))
