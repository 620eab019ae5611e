"""Bits of a table of embeddings: in its output's quantization, or narrow rows that have a scale each."""

from __future__ import annotations

from edgeq.quantize.plan import Plan
from edgeq.quantize.topology import embedding_table
from edgeq.search.space import Place, Variant, place_name, said

KIND = "tables"
#: Widths that take less memory than the one in front: 3 bits are stored as 4, 5 to 7 as 8.
WIDTHS = (8, 4, 2)


def find(plan: Plan) -> list[Place]:
    """Every table whose rows computed numbers choose, and for which the policy names no width."""
    forms = tuple(Variant(KIND, "weight_bits", bits) for bits in WIDTHS)
    found = []
    for layer in plan.topology.layers:
        table = embedding_table(layer)
        if table is None or said(plan.policy, layer.names).weight_bits is not None:
            continue
        touches = frozenset([layer.name])
        found.append(Place(place_name(KIND, layer.name), int(table.size), 0, forms, default=forms[0], touches=touches))
    return found
