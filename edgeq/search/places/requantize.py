"""Forms of requantization: one rounding of the whole product, or a multiplier of 16 bits."""

from __future__ import annotations

from edgeq.quantize.integerize import build
from edgeq.quantize.plan import Plan
from edgeq.search.space import Place, Variant, place_name, said

KIND = "requantize"
FORMS = ("single", "narrow")


def find(plan: Plan) -> list[Place]:
    """Every layer that has the narrow form, if not because the policy names it for that layer."""
    report = build(plan.with_weights(plan.weights)).layers
    found = []
    for layer in plan.topology.layers:
        if report.get(layer.name, {}).get("requantize") != "narrow" or said(plan.policy, layer.names).requantize:
            continue
        forms = tuple(Variant(KIND, "requantize", form) for form in FORMS)
        touches = frozenset([layer.name])
        found.append(Place(place_name(KIND, layer.name), 0, 0, forms, default=forms[-1], touches=touches))
    return found
