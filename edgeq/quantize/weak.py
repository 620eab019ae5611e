"""Sets of tensors that 16 bits help as a whole and cost little: sums, and what the first layers write.

No single tensor of a residual network stands out, but each sum rounds what all blocks in front of it have added up, and
what a block adds is rounded just for being added. Nothing but additions reads the 16 bits: products read the same
tensors as int8 (`products.read_quant`). And of all layers the first ones have the fewest weights to average their
rounding out; where depthwise convolutions alone read them, those multiply by 16 bits anyway on many processors.
"""

from __future__ import annotations

from edgeq.quantize.kinds import kinds
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import product_of
from edgeq.quantize.topology import Layer, is_float, name_of, shape_of


def weak_sets(plan: Plan) -> dict[str, list[str]]:
    """Type groups by set, `stem` and `sums`: representatives of groups that promotion may decide on, in order."""
    topology, types = plan.topology, plan.ties.types
    first = set(kinds(topology)["first"])
    stem = [layer for layer in topology.layers if layer.name in first and _only_read_by_channel(plan, layer)]
    sums = [layer for layer in topology.layers if _adds(layer)]
    found = {
        "stem": [types.find(name_of(layer.output)) for layer in stem],
        "sums": [types.find(name_of(value)) for layer in sums for value in layer.inputs],
    }
    allowed = plan.candidates()
    return {name: [group for group in dict.fromkeys(groups) if group in allowed] for name, groups in found.items()}


def _only_read_by_channel(plan: Plan, layer: Layer) -> bool:
    """Whether of all products depthwise convolutions alone read what a layer writes."""
    readers = [product_of(reader) for reader in plan.topology.readers(layer.output)]
    return bool(readers) and all(product is not None and product.is_depthwise for product in readers)


def _adds(layer: Layer) -> bool:
    """Whether a layer adds two computed tensors of the same shape."""
    values = [value for value in layer.inputs if is_float(value)]
    return (
        layer.op in ("Add", "Sub")
        and len(values) == 2
        and all(shape_of(value) == shape_of(layer.output) for value in values)
    )
