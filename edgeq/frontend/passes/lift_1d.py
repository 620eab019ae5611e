"""Run one-dimensional convolutions and pools as two-dimensional ones of height 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.errors import UnsupportedOpError
from edgeq.frontend.arrays import Float64
from edgeq.frontend.editing import (
    NodePass,
    constant,
    constant_input,
    describe,
    initializer,
    integer,
    ints,
    is_op,
    make_node,
    replace_node,
    static_shape,
)
from edgeq.frontend.elementwise import EVALUATORS
from edgeq.frontend.weights import quantized, weight_array

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")


class Lift1d(NodePass):
    """[N, C, L] is reshaped to [N, C, 1, L] in front of each op and back behind it.

    Elementwise ops and Concat between lifted ops are lifted too (their Reshape moves behind them), so that whole
    one-dimensional networks run on images with a Reshape at each end.

    Raises:
        UnsupportedOpError: a convolution or pool over three or more spatial dimensions.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if is_op(node, *_CONVOLUTIONS, *_POOLS):
            shape = static_shape(node.inputs[0])
            if shape is not None and len(shape) > 4:
                raise UnsupportedOpError(
                    f"{describe(node)} works on {len(shape) - 2} spatial dimensions",
                    where=describe(node),
                    why="convolutions and pools over one and two dimensions are supported",
                )
            return shape is not None and len(shape) == 3 and _lift(graph, node, shape)
        return _sink(graph, node)


def _lift(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...]) -> bool:
    out = static_shape(node.outputs[0])
    if out is None or (len(node.outputs) > 1 and node.outputs[1].uses()):
        return False
    inputs: list[ir.Value | None] = list(node.inputs)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    new: list[ir.Node] = []
    if is_op(node, *_CONVOLUTIONS):
        weight = weight_array(inputs[1])
        if weight is None:
            return False
        inputs[1] = _lifted_weight(graph, new, node, weight)
    for name, first in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 0)):
        if name in attributes:
            attributes[name] = [first, *ints(node, name, [])]
    if "pads" in attributes:
        begin, end = ints(node, "pads", [])
        attributes["pads"] = [0, begin, 0, end]
    inputs[0] = _image(graph, new, node.inputs[0], shape, node)
    lifted_shape = (out[0], out[1], 1, out[2])
    dtype = node.outputs[0].dtype
    lifted = make_node(node.op_type, inputs, name=node.name, shape=lifted_shape, dtype=dtype, attributes=attributes)
    node.resize_outputs(1)
    replace_node(graph, node, [*new, lifted, _reshape(graph, lifted.outputs[0], out, f"{node.name}.as_sequence")])
    return True


def _lifted_weight(graph: ir.Graph, new: list[ir.Node], node: ir.Node, weight: Float64) -> ir.Value | None:
    dequantize = quantized(node.inputs[1])
    name = f"{node.inputs[1].name}.lifted"
    if dequantize is None:
        return initializer(graph, name, weight.astype(np.float32)[:, :, None])
    q = constant(dequantize.inputs[0])
    assert q is not None
    axis = integer(dequantize, "axis", 1)
    if axis % q.ndim == 2:
        return initializer(graph, name, weight.astype(np.float32)[:, :, None])
    operands = [initializer(graph, name, q[:, :, None]), *dequantize.inputs[1:]]
    new.append(
        make_node(
            "DequantizeLinear",
            operands,
            name=f"{dequantize.name}.lifted",
            shape=(*q.shape[:2], 1, q.shape[2]),
            dtype=ir.DataType.FLOAT,
            attributes={"axis": axis % q.ndim},
        )
    )
    return new[-1].outputs[0]


def _image(
    graph: ir.Graph, new: list[ir.Node], value: ir.Value | None, shape: Sequence[int], node: ir.Node
) -> ir.Value:
    assert value is not None
    source = _unsunk(value)
    if source is not None:
        return source
    new.append(_reshape(graph, value, (*shape[:2], 1, *shape[2:]), f"{node.name}.as_image"))
    return new[-1].outputs[0]


def _unsunk(value: ir.Value | None) -> ir.Value | None:
    """The image [N, C, 1, L] that a Reshape turned into `value` [N, C, L], if that is where it comes from."""
    producer, shape = None if value is None else value.producer(), static_shape(value)
    if producer is None or shape is None or len(shape) != 3 or not is_op(producer, "Reshape"):
        return None
    before = static_shape(producer.inputs[0])
    return producer.inputs[0] if before == (shape[0], shape[1], 1, shape[2]) else None


def _reshape(graph: ir.Graph, value: ir.Value, shape: Sequence[int], name: str) -> ir.Node:
    target = initializer(graph, f"{name}.shape", np.array(shape, np.int64))
    return make_node("Reshape", [value, target], name=name, shape=shape, dtype=value.dtype)


def _sink(graph: ir.Graph, node: ir.Node) -> bool:
    """Run an elementwise op or Concat on images if that is where all its tensors come from."""
    out = static_shape(node.outputs[0])
    concat = is_op(node, "Concat") and integer(node, "axis", 0) % 3 == 1
    if node.domain or not (concat or node.op_type in EVALUATORS) or out is None or len(out) != 3:
        return False
    images = [_unsunk(value) for value in node.inputs]
    dynamic = [k for k, value in enumerate(node.inputs) if value is not None and constant(value) is None]
    if not dynamic or any(images[k] is None or (not concat and static_shape(node.inputs[k]) != out) for k in dynamic):
        return False
    inputs = list(node.inputs)
    for index, value in enumerate(node.inputs):
        array = constant_input(node, index)
        if index in dynamic:
            inputs[index] = images[index]
        elif array is not None and array.ndim >= 2:
            lifted = array.reshape(*array.shape[:-1], 1, array.shape[-1])
            inputs[index] = initializer(graph, f"{value.name}.lifted", lifted) if value is not None else None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if concat:
        attributes["axis"] = 1
    lifted_shape, dtype = (out[0], out[1], 1, out[2]), node.outputs[0].dtype
    new = make_node(node.op_type, inputs, name=node.name, shape=lifted_shape, dtype=dtype, attributes=attributes)
    replace_node(graph, node, [new, _reshape(graph, new.outputs[0], out, f"{node.name}.as_sequence")])
    return True
