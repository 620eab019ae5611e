"""Type of the tensors that the rule of promotion gives 16 bits."""

from __future__ import annotations

from edgeq.quantize.plan import Plan
from edgeq.quantize.topology import Layer
from edgeq.quantize.weak import weak_sets
from edgeq.search.places.around import around
from edgeq.search.space import Place, Variant, place_name

KIND = "activations"


def find(plan: Plan) -> list[Place]:
    """Every promoted group of tensors that share a type; and what was not promoted but could be, which shall stay so.

    The rule looks again at what a policy leaves open: with one tensor back at 8 bits it may promote others, where it
    looks at more than their own error: inputs and sets.
    """
    forms = tuple(Variant(KIND, "activation", kind) for kind in ("s16", "s8"))
    sets = {group for groups in weak_sets(plan).values() for group in groups}
    found = []
    for group, roots in plan.candidates().items():
        makers = [plan.topology.producer[name] for name in roots if name in plan.topology.producer]
        name = plan.topology.producer[roots[0]].name if roots[0] in plan.topology.producer else roots[0]
        if group in plan.promoted:
            touches = around(plan.topology, [*makers, *_readers(plan, group)])
            found.append(Place(place_name(KIND, name), 0, 0, forms, touches=touches, pinned=True))
        elif plan.promoted and (len(makers) < len(roots) or group in sets):
            found.append(Place(place_name(KIND, name), 0, 0, forms[1:], pinned=True))
    return found


def _readers(plan: Plan, group: str) -> list[Layer]:
    names = plan.ties.types.groups()[group]
    return [reader for name in names for reader in plan.topology.readers(name)]
