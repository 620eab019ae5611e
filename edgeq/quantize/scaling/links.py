"""Channels whose scale can move: from what makes a value into the weights of everything that reads it.

    y = W₂·f(W₁·x + b₁)  =  (W₂·S)·f(S⁻¹·W₁·x + S⁻¹·b₁)        S diagonal and positive, f the identity or a ReLU

What makes the value is a product with constant weights or a normalization; every reader is a product with constant
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.frontend.editing import initializer
from edgeq.frontend.graph import FloatGraph
from edgeq.quantize.products import Product, product_of
from edgeq.quantize.topology import Layer, Topology, constant, name_of, shape_of, stored_integers

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Scales beyond these stand for channels that hardly exist.
LIMITS = (2.0**-8, 2.0**8)


@dataclass(frozen=True)
class Link:
    """A value whose channels can be scaled.

    Attributes:
        value: name of the value. axis: of its channels. channels: how many.
        maker: the layer that makes it. readers: the products that read it.
    """

    value: str
    axis: int
    channels: int
    maker: Layer
    readers: tuple[Product, ...]

    @property
    def depthwise(self) -> bool:
        """Whether depthwise convolutions alone read it: their weights have a scale per channel anyway."""
        return all(reader.is_depthwise for reader in self.readers)

    def read_range(self) -> Float:
        """Largest weight per channel among the readers: [channels]."""
        return np.asarray(np.max([np.abs(by_input(reader)).max(axis=(1, 2)) for reader in self.readers], axis=0))


def by_input(product: Product) -> Float:
    """Weights as [input channels, outputs that read it, taps]."""
    weights = product.weights.astype(np.float64)
    if product.layer.op == "MatMul":
        return weights[:, :, None]
    if product.layer.op == "ConvTranspose":
        return weights.reshape(*weights.shape[:2], -1)
    outputs, per_group = weights.shape[:2]
    grouped = weights.reshape(product.group, outputs // product.group, per_group, -1)
    turned = grouped.transpose(0, 2, 1, 3)
    return np.asarray(turned.reshape(product.group * per_group, outputs // product.group, -1))


def links(topology: Topology) -> list[Link]:
    """Every value whose channels can be scaled, in order."""
    found = []
    for layer in topology.layers:
        link = _link(topology, layer)
        if link is not None:
            found.append(link)
    return found


def _link(topology: Topology, layer: Layer) -> Link | None:
    if len(layer.outputs) != 1 or layer.output.is_graph_output() or layer.output.metadata_props.get("edgeq.scale"):
        return None
    axis = _axis(layer)
    homogeneous = layer.low in (0.0, -np.inf) and layer.high == np.inf
    if axis is None or not homogeneous:
        return None
    readers = [product_of(reader) for reader in topology.readers(layer.output)]
    if not readers:
        return None
    chosen = []
    for product in readers:
        if product is None or product.layer.inputs[0] is not layer.output or _stored(product.layer):
            return None
        chosen.append(product)
    shape = shape_of(layer.output)
    return Link(name_of(layer.output), axis, shape[axis], layer, tuple(chosen))


def _axis(layer: Layer) -> int | None:
    """Axis of the channels that the layer scales one by one; None where it has no constants for that."""
    rank = len(shape_of(layer.output))
    if layer.op == "Conv" and product_of(layer) is not None and not _stored(layer):
        return 1
    if layer.op == "MatMul" and product_of(layer) is not None and not _stored(layer):
        return rank - 1
    if layer.op == "LayerNormalization" and all(
        constant(v) is not None for v in layer.node.inputs[1:] if v is not None
    ):
        return rank - 1
    return None


def _stored(layer: Layer) -> bool:
    weight = layer.node.inputs[1]
    return weight is not None and stored_integers(weight) is not None


def rescaled(graph: FloatGraph, scales: Mapping[str, Float]) -> FloatGraph:
    """The same function with the channels of some values divided by scales.

    Args:
        graph: from the front end; it is not changed. scales: [channels] by value name, positive.
    """
    result = FloatGraph(ir.from_proto(ir.to_proto(graph.model)), graph.source, list(graph.notes))
    for link in links(Topology(result)):
        if link.value in scales:
            # Weights are read anew: a layer may read one scaled value and make another.
            _divide(result.graph, link.maker, scales[link.value])
            for reader in link.readers:
                _multiply(result.graph, reader.layer, scales[link.value])
    return result


def _divide(graph: ir.Graph, layer: Layer, scale: Float) -> None:
    if layer.op == "LayerNormalization":
        for position in range(1, len(layer.node.inputs)):
            _replace(graph, layer.node, position, lambda array: array.reshape(-1) / scale)
    elif layer.op == "MatMul":
        _replace(graph, layer.node, 1, lambda array: array / scale)
        if layer.bias is not None:
            add = layer.nodes[1]
            _replace(graph, add, list(add.inputs).index(layer.bias), lambda array: array.reshape(-1) / scale)
    else:
        _replace(graph, layer.node, 1, lambda array: array / scale[:, None, None, None])
        _replace(graph, layer.node, 2, lambda array: array / scale)


def _multiply(graph: ir.Graph, layer: Layer, scale: Float) -> None:
    product = product_of(layer)
    if layer.op == "MatMul":
        _replace(graph, layer.node, 1, lambda array: array * scale[:, None])
    elif layer.op == "ConvTranspose":
        _replace(graph, layer.node, 1, lambda array: array * scale[:, None, None, None])
    elif product is not None:
        outputs, per_group = product.weights.shape[:2]
        spread = np.repeat(scale.reshape(product.group, per_group), outputs // product.group, axis=0)
        _replace(graph, layer.node, 1, lambda array: array * spread[:, :, None, None])


def _replace(graph: ir.Graph, node: ir.Node, position: int, change: Any) -> None:
    """Another constant for one input of a node; whoever shares the old one keeps it."""
    value = node.inputs[position] if position < len(node.inputs) else None
    array = None if value is None else constant(value)
    if value is None or array is None:
        return
    changed = np.asarray(change(array.astype(np.float64)), dtype=np.float32)
    node.replace_input_with(position, initializer(graph, f"{value.name}.scaled", changed))
