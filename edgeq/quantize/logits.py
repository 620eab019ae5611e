"""Values that are never rounded: logits between a product and a softmax stay 32-bit accumulators; masks are 0 and 1.

A softmax takes accumulators of any scale, so the scale between the product and the softmax is a number known at compile
time, and a mask is an operand of its own. Neither the mask nor a rounding ever touches the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeq.frontend.unary import UnaryFunction
from edgeq.quantize.topology import Layer, Topology, constant, is_float, name_of

SOFTMAX = ("Softmax", "MaskedSoftmax")
#: Layers between a product and a softmax up to which they are taken for one attention.
_FAR = 6
_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice", "Gather", "Identity")


@dataclass(frozen=True)
class Scaled:
    """An accumulator as a multiple of another: name of the other, positive factor (1: only moved)."""

    source: str
    factor: float


def find_accumulators(topology: Topology) -> dict[str, Scaled | Layer]:
    """Values that stay 32-bit accumulators: the product that makes one, or what it is a multiple of."""
    found: dict[str, Scaled | Layer] = {}
    for layer in topology.layers:
        if layer.op in SOFTMAX and layer.inputs:
            found.update(_behind(topology, name_of(layer.inputs[0])))
    return found


def rounded_attention(topology: Topology) -> list[str]:
    """A sentence for every attention whose logits are rounded before the softmax, naming what is in between."""
    found, sentences = find_accumulators(topology), []
    for layer in topology.layers:
        if layer.op not in SOFTMAX or not layer.inputs or name_of(layer.inputs[0]) in found:
            continue
        between = _until_product(topology, name_of(layer.inputs[0]))
        if between:
            names = ", ".join(f"{step.op} {step.name!r}" for step in between)
            sentences.append(
                f"attention {layer.name!r}: {names} between product and softmax is neither a scale nor a mask; it is "
                "computed op by op, and the logits are rounded for it"
            )
    return sentences


def _until_product(topology: Topology, name: str) -> list[Layer]:
    """Layers between a value and the product of two computed tensors behind it, nearest first; empty without one."""
    between: list[Layer] = []
    layer = topology.producer.get(name)
    while layer is not None and len(between) < _FAR:
        if layer.op == "MatMul":
            return between if all(constant(value) is None for value in layer.node.inputs) else []
        between.append(layer)
        computed = [topology.producer.get(name_of(value)) for value in layer.inputs if is_float(value)]
        layer = next((step for step in computed if step is not None), None)
    return []


def _behind(topology: Topology, name: str) -> dict[str, Scaled | Layer]:
    """The chain that ends in `name`, if it starts with a product of two computed tensors; else nothing."""
    chain: dict[str, Scaled | Layer] = {}
    while True:
        layer = topology.producer.get(name)
        if layer is None or not _private(topology, layer):
            return {}
        if layer.op == "MatMul":
            computed = all(value is not None and constant(value) is None for value in layer.node.inputs)
            return {**chain, name: layer} if computed and not layer.clamped else {}
        step = _scaled(topology, layer)
        if step is None:
            return {}
        chain[name] = step
        name = step.source


def _private(topology: Topology, layer: Layer) -> bool:
    """Whether the layer's only output has one reader, is not given out, and has no scale of its own."""
    if len(layer.outputs) != 1 or layer.output.is_graph_output():
        return False
    given = layer.output.metadata_props.get("edgeq.scale")
    return not given and len(topology.readers(layer.output)) == 1


def _scaled(topology: Topology, layer: Layer) -> Scaled | None:
    if layer.op in ("Reshape", "Transpose", "Unsqueeze", "Squeeze") and is_float(layer.inputs[0]):
        return Scaled(name_of(layer.inputs[0]), 1.0)
    if not topology.is_unary(layer):
        return None
    factor = factor_of(topology.source.unary(layer.node))
    return None if factor is None else Scaled(name_of(layer.inputs[0]), factor)


def factor_of(function: UnaryFunction) -> float | None:
    """s, if the function is s·x with a positive s, the same for all channels."""
    if function.channels is not None:
        return None
    points = np.array([0.0, 1.0, -3.0, 7.0, 1000.0])
    values = function(points)
    factor = float(values[1])
    if not math.isfinite(factor) or factor <= 0 or not np.allclose(values, factor * points, rtol=1e-6, atol=0.0):
        return None
    return factor


def find_masks(topology: Topology, zero_or_one: frozenset[str]) -> dict[str, str]:
    """Values that hold nothing but 0 and 1, and sums of them: {name: "mask" or "count"}.

    Args:
        topology: of the float graph.
        zero_or_one: values cast from integers that were never anything but 0 and 1 in calibration.
    """
    found: dict[str, str] = {}
    for layer in topology.layers:
        if len(layer.outputs) != 1 or not is_float(layer.output):
            continue
        name = name_of(layer.output)
        sources = [found.get(name_of(value)) for value in layer.inputs if is_float(value)]
        if layer.op == "Cast":
            if name in zero_or_one:
                found[name] = "mask"
        elif sources and all(kind == "mask" for kind in sources):
            if layer.op in _MOVES or (layer.op == "Mul" and len(sources) == 2) or _keeps_bits(topology, layer):
                found[name] = "mask"
            elif layer.op == "ReduceSum":
                found[name] = "count"
        elif sources == ["count"] and layer.op in _MOVES:
            found[name] = "count"
    return found


def _keeps_bits(topology: Topology, layer: Layer) -> bool:
    """A function that gives 0 or 1 for 0 and 1: a negation, for instance."""
    if not topology.is_unary(layer):
        return False
    function = topology.source.unary(layer.node)
    return function.channels is None and set(function(np.array([0.0, 1.0])).tolist()) <= {0.0, 1.0}
