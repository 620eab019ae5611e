"""Forms of a softmax: powers of two with 8-bit probabilities, or shifts with 16-bit ones."""

from __future__ import annotations

from edgeq.quantize.logits import SOFTMAX
from edgeq.quantize.plan import Plan
from edgeq.search.places.around import around
from edgeq.search.space import Place, Variant, place_name, said

KIND = "softmax"
FORMS = ("exp2", "shiftmax")


def find(plan: Plan) -> list[Place]:
    """Every softmax for which the policy names no form."""
    found = []
    for layer in plan.topology.layers:
        if layer.op not in SOFTMAX or said(plan.policy, layer.names).softmax is not None:
            continue
        forms = tuple(Variant(KIND, "softmax", form) for form in FORMS)
        base = Variant(KIND, "softmax", plan.policy.layer(*layer.names).softmax or FORMS[0])
        touches = around(plan.topology, [layer])
        found.append(Place(place_name(KIND, layer.name), 0, 0, forms, default=base, touches=touches))
    return found
