"""Forms of other functions of one tensor: a table of bytes, or 16 bits in and interpolated."""

from __future__ import annotations

from edgeq.quantize.integerize.activation import is_gelu
from edgeq.quantize.plan import S8, Plan
from edgeq.quantize.topology import Layer, name_of
from edgeq.search.places.around import around
from edgeq.search.space import Place, Variant, place_name, said

KIND = "nonlinear"
FORMS = ("interp", "table")


def find(plan: Plan) -> list[Place]:
    """Every function that reads a computed int8 tensor, and for which the policy names no form."""
    found = []
    for layer in plan.topology.layers:
        if not _is_open(plan, layer):
            continue
        forms = tuple(Variant(KIND, "nonlinear", form) for form in FORMS)
        touches = around(plan.topology, [layer, *_sources(plan, layer)])
        found.append(Place(place_name(KIND, layer.name), 0, 0, forms, default=forms[-1], touches=touches))
    return found


def _is_open(plan: Plan, layer: Layer) -> bool:
    """Whether both forms are there to choose from."""
    if not plan.topology.is_unary(layer) or is_gelu(layer) or plan.policy.layer(*layer.names).nonlinear is not None:
        return False
    source = name_of(layer.inputs[0])
    if plan.topology.source.unary(layer.node).channels is not None or plan.is_exact(name_of(layer.output)):
        return False
    decided = any(said(plan.policy, each.names).activation for each in _sources(plan, layer))
    return plan.quant(source).dtype == S8 and source not in plan.ties.given and not decided and _computed(plan, source)


def _computed(plan: Plan, source: str) -> bool:
    return all(name in plan.topology.producer for name in plan.ties.types.groups()[plan.ties.types.find(source)])


def _sources(plan: Plan, layer: Layer) -> list[Layer]:
    """Layers that make the tensors with the type of what the function reads."""
    group = plan.ties.types.groups()[plan.ties.types.find(name_of(layer.inputs[0]))]
    return [plan.topology.producer[name] for name in group if name in plan.topology.producer]
