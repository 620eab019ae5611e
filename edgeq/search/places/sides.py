"""Bits of the right side of a product of two computed tensors: keys and values of attention."""

from __future__ import annotations

from edgeq.quantize.plan import RIGHT_BITS, Plan
from edgeq.search.places.around import around
from edgeq.search.space import WIDEST, Place, Variant, place_name, said

KIND = "sides"


def find(plan: Plan) -> list[Place]:
    """Every product whose right side nothing else reads, and for which the policy names no width."""
    found = []
    for layer, group in plan.right_sides():
        if said(plan.policy, layer.names).weight_bits is not None:
            continue
        forms = tuple(Variant(KIND, "weight_bits", bits) for bits in (WIDEST, RIGHT_BITS))
        bits = plan.policy.layer(*layer.names).weight_bits or WIDEST
        makers = [plan.topology.producer[name] for name in plan.roots(group) if name in plan.topology.producer]
        touches = around(plan.topology, [layer]) | {maker.name for maker in makers}
        base = forms[0] if bits > RIGHT_BITS else forms[1]
        found.append(Place(place_name(KIND, layer.name), 0, 0, forms, default=base, touches=touches))
    return found
