"""Forms of GELU: a table, or shifts as I-ViT has them, mended or as published."""

from __future__ import annotations

from edgeq.quantize.integerize.activation import is_gelu
from edgeq.quantize.plan import Plan
from edgeq.search.places.around import around
from edgeq.search.space import Place, Variant, place_name, said

KIND = "gelu"
FORMS = ("lut", "shiftgelu", "shiftgelu_paper")


def find(plan: Plan) -> list[Place]:
    """Every GELU for which the policy names no form."""
    found = []
    for layer in plan.topology.layers:
        if not (plan.topology.is_unary(layer) and is_gelu(layer)) or said(plan.policy, layer.names).gelu is not None:
            continue
        forms = tuple(Variant(KIND, "gelu", form) for form in FORMS)
        base = Variant(KIND, "gelu", plan.policy.layer(*layer.names).gelu or FORMS[0])
        touches = around(plan.topology, [layer])
        found.append(Place(place_name(KIND, layer.name), 0, 0, forms, default=base, touches=touches))
    return found
