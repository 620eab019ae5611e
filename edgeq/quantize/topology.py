"""What the quantizer sees in a float graph: layers (a node with its bias and clamp folded in) and tied tensors.

A layer is the unit of policy, report and integer emission. Its output carries a quantization; values inside it (a
convolution's sum in front of its ReLU) do not. Ops that only move values tie their input's scale to their output's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.errors import ModelError

if TYPE_CHECKING:
    from edgeq.frontend.graph import FloatGraph

#: Move values without changing them, in any integer type.
MOVEMENT = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Expand"})
MOVEMENT |= {"Identity"}
#: Select or copy values, on int8 only (ONNX Runtime has no int16 form).
SELECTION = frozenset({"MaxPool", "GlobalMaxPool", "Pad", "ReduceMax", "Resize"})
SELECTION |= {"DepthToSpace", "SpaceToDepth"}
#: Ops whose integer form ends in a requantization that can clamp for a following Relu or Clip.
CLAMPING = frozenset({"Conv", "ConvTranspose", "MatMul", "Add", "Sub", "Mul", "Div", "Max", "Min", "AveragePool"})
CLAMPING |= {"GlobalAveragePool", "ReduceMean", "ReduceSum"}


@dataclass(frozen=True)
class Layer:
    """A node of the float graph with what is folded into it.

    Attributes:
        node: the op itself.
        bias: constant added behind a matrix product, or None.
        low, high: clamp that follows (±inf: none), in real units.
        nodes: all nodes folded in, in order; the last one makes `outputs`.
    """

    node: ir.Node
    bias: ir.Value | None = None
    low: float = -math.inf
    high: float = math.inf
    nodes: tuple[ir.Node, ...] = field(default=())

    @property
    def name(self) -> str:
        """Name of the op's node, or of its output where the node has none."""
        return str(self.node.name) if self.node.name else name_of(self.node.outputs[0])

    @property
    def names(self) -> tuple[str, ...]:
        """Every name the layer goes by in a policy: its nodes' and its outputs'."""
        nodes = tuple(node.name for node in self.nodes if node.name)
        return (self.name, *nodes, *(name_of(value) for value in self.outputs))

    @property
    def op(self) -> str:
        """Op type of the node; `Unary` for fused elementwise functions."""
        fused = self.node.domain == "edgeq.float" and self.node.op_type.startswith("Unary_")
        return "Unary" if fused else str(self.node.op_type)

    @property
    def outputs(self) -> tuple[ir.Value, ...]:
        """Values the layer makes."""
        return tuple(self.nodes[-1].outputs)

    @property
    def output(self) -> ir.Value:
        """The only output of most layers."""
        return self.outputs[0]

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """Non-constant inputs."""
        return tuple(value for value in self.node.inputs if value is not None and constant(value) is None)

    @property
    def clamped(self) -> bool:
        """Whether a Relu or Clip is folded in."""
        return self.low > -math.inf or self.high < math.inf


def name_of(value: ir.Value) -> str:
    """Name of a value; graphs from the front end have one on every value."""
    if value.name is None:
        raise ModelError("a value of the graph has no name", hint="load the model through edgeq.frontend.load")
    return str(value.name)


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array behind a constant value, or None."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return np.asarray(tensor.numpy())
    stored = stored_integers(value)
    return None if stored is None else stored.real()


@dataclass(frozen=True)
class StoredIntegers:
    """A constant the model keeps as integers behind a DequantizeLinear.

    Attributes:
        values: the integers. scale, zero_point: float and int arrays that broadcast against values.
    """

    values: NDArray[Any]
    scale: NDArray[Any]
    zero_point: NDArray[Any]

    def real(self) -> NDArray[np.float32]:
        """The constant in real units."""
        steps = self.values.astype(np.int64) - self.zero_point
        return np.asarray(steps * self.scale.astype(np.float64), dtype=np.float32)

    def arranged(self, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> StoredIntegers:
        """The same with every part spread to the values' shape and rearranged by a function of such arrays."""
        spread = (np.broadcast_to(part, self.values.shape) for part in (self.scale, self.zero_point))
        return StoredIntegers(arrange(self.values), *(arrange(part) for part in spread))


def stored_integers(value: ir.Value) -> StoredIntegers | None:
    """The integers behind a constant that is the output of a DequantizeLinear of constants, or None."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    parts = [None if part is None else constant(part) for part in node.inputs]
    if any(part is None for part in parts[:2]):
        return None
    values, scale = parts[0], parts[1]
    zero = parts[2] if len(parts) > 2 else None
    if values is None or scale is None or "block_size" in node.attributes:
        return None
    attribute = node.attributes.get("axis")
    axis = 1 if attribute is None else attribute.as_int()
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = -1
    zeros = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
    return StoredIntegers(values, scale.reshape(shape), zeros.reshape(shape if zeros.size > 1 else [1] * values.ndim))


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Static shape.

    Raises:
        ModelError: a dimension isn't known.
    """
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        raise ModelError(
            "a tensor has no static shape",
            where=name_of(value),
            why=f"its shape is {value.shape}",
            hint="fix the batch with --batch and other dimensions with --shape",
        )
    return tuple(int(dim) for dim in value.shape)


class Topology:
    """Layers and ties of a float graph.

    Attributes:
        source: the float graph. model, graph: its ONNX model and graph.
        layers: in topological order.
        producer: layer by the name of a value it makes.
    """

    def __init__(self, source: FloatGraph) -> None:
        self.source = source
        self.model = source.model
        self.graph = source.model.graph
        self.layers: list[Layer] = []
        self.producer: dict[str, Layer] = {}
        folded: set[ir.Node] = set()
        for node in self.graph:
            if node in folded or all(constant(value) is not None for value in node.outputs):
                continue
            layer = self._layer(node)
            folded.update(layer.nodes)
            self.layers.append(layer)
            self.producer.update({name_of(value): layer for value in layer.outputs})
        self._readers = self._find_readers()

    def _layer(self, node: ir.Node) -> Layer:
        nodes, bias = [node], None
        if node.domain in ("", "ai.onnx") and node.op_type in CLAMPING:
            if node.op_type == "MatMul" and constant(node.inputs[1]) is not None:
                add = self._only_reader(node.outputs[0])
                bias = None if add is None else _bias_of(add, node)
                if bias is not None and add is not None:
                    nodes.append(add)
            follower = self._only_reader(nodes[-1].outputs[0])
            limits = None if follower is None else clamp_of(follower)
            if limits is not None and follower is not None:
                return Layer(node, bias, *limits, (*nodes, follower))
        return Layer(node, bias, nodes=tuple(nodes))

    @staticmethod
    def _only_reader(value: ir.Value) -> ir.Node | None:
        """The node that reads a value, if there is exactly one and the graph does not give the value out."""
        uses = list(value.uses())
        if len(uses) != 1 or value.is_graph_output() or value.metadata_props.get("edgeq.scale"):
            # A value with a scale of its own (from a QuantizeLinear pair) is rounded there: it can't be skipped.
            return None
        return uses[0].node

    def _find_readers(self) -> dict[str, list[Layer]]:
        readers: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for value in layer.inputs:
                readers.setdefault(name_of(value), []).append(layer)
        return readers

    def is_unary(self, layer: Layer) -> bool:
        """Whether the layer is a function of one tensor, elementwise, and nothing simpler."""
        return not layer.clamped and self.source.is_unary(layer.node) and clamp_of(layer.node) is None

    def readers(self, value: ir.Value | str) -> list[Layer]:
        """Layers that read a value."""
        return self._readers.get(value if isinstance(value, str) else name_of(value), [])

    def values(self) -> Iterator[ir.Value]:
        """Float values that carry a quantization: graph inputs and outputs of layers, in order."""
        for value in self.graph.inputs:
            if is_float(value):
                yield value
        for layer in self.layers:
            for value in layer.outputs:
                if is_float(value):
                    yield value

    def names(self) -> Iterator[str]:
        """Every name a policy may use."""
        for value in self.graph.inputs:
            yield name_of(value)
        for layer in self.layers:
            yield from layer.names


def is_float(value: ir.Value) -> bool:
    """Whether a value is of a floating type (an unknown type counts as float)."""
    return value.dtype is None or value.dtype.is_floating_point()


def _bias_of(add: ir.Node, product: ir.Node) -> ir.Value | None:
    """The constant side of an Add that is a bias of a matrix product [..., N]: a scalar or a vector along N."""
    if add.op_type != "Add" or add.domain not in ("", "ai.onnx"):
        return None
    other = [value for value in add.inputs if value is not product.outputs[0]]
    array = constant(other[0]) if len(other) == 1 else None
    weight = constant(product.inputs[1])
    if array is None or weight is None or weight.ndim != 2:
        return None
    columns = weight.shape[-1]
    per_column = array.size == 1 or (array.size == columns and array.shape[-1] == columns)
    rank = len(product.outputs[0].shape) if product.outputs[0].shape is not None else 2
    return other[0] if per_column and array.ndim <= rank else None


def clamp_of(node: ir.Node) -> tuple[float, float] | None:
    """(low, high) of a Relu or of a Clip with scalar constant limits; None for any other node."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    limits = [-math.inf, math.inf]
    for position, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        array = constant(value)
        if array is None or array.size != 1:
            return None
        limits[position] = float(array.reshape(()))
    return limits[0], limits[1]


def is_movement(layer: Layer) -> bool:
    """Whether the layer only moves values, in any integer type (Concat apart: it joins several)."""
    return layer.node.domain in ("", "ai.onnx") and layer.op in MOVEMENT


def embedding_table(layer: Layer) -> NDArray[Any] | None:
    """The constant whose rows computed indices choose, if the layer is such a Gather."""
    if layer.op != "Gather" or layer.node.domain not in ("", "ai.onnx"):
        return None
    table, axis = constant(layer.node.inputs[0]), layer.node.attributes.get("axis")
    indices = layer.node.inputs[1]
    by_rows = axis is None or axis.as_int() == 0
    return table if table is not None and table.dtype.kind == "f" and by_rows and constant(indices) is None else None


def is_selection(layer: Layer) -> bool:
    """Whether the layer selects or copies int8 values: pooling by maximum, padding, nearest resize."""
    if layer.node.domain not in ("", "ai.onnx") or layer.op not in SELECTION:
        return False
    return layer.op != "Resize" or resize_mode(layer.node) == "nearest"


def resize_mode(node: ir.Node) -> str:
    """`mode` of a Resize."""
    attribute = node.attributes.get("mode")
    return "nearest" if attribute is None else attribute.as_string()
