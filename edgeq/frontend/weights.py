"""Reading and scaling the weights of Conv, ConvTranspose and MatMul, float or quantized."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array, Float64
from edgeq.frontend.editing import constant, initializer, integer, is_op


def dequantize(q: Array, scale: Array, zero_point: Array | None, axis: int) -> Float64:
    """(q − zero_point) · scale in float64, per tensor or along `axis` (ONNX DequantizeLinear)."""
    shape = [1] * q.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    zero = np.zeros(scale.shape) if zero_point is None else zero_point.astype(np.float64)
    result: Float64 = (q.astype(np.float64) - zero.reshape(shape)) * scale.astype(np.float64).reshape(shape)
    return result


def quantized(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear behind a weight operand, if its operands are constant and it isn't blocked."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, "DequantizeLinear") or integer(node, "block_size", 0):
        return None
    given = [operand for operand in node.inputs if operand is not None]
    return node if all(constant(operand) is not None for operand in given) else None


def weight_array(value: ir.Value | None) -> Float64 | None:
    """A weight operand as float64, None if it isn't constant."""
    array = constant(value)
    if array is not None:
        return array.astype(np.float64)
    node = quantized(value)
    return None if node is None else _dequantized(node)


def _dequantized(node: ir.Node) -> Float64:
    q, scale = constant(node.inputs[0]), constant(node.inputs[1])
    assert q is not None
    assert scale is not None
    return dequantize(q, scale, _zero_point(node), integer(node, "axis", 1))


def _zero_point(node: ir.Node) -> Array | None:
    return constant(node.inputs[2]) if len(node.inputs) > 2 else None


def scale_weight(graph: ir.Graph, reader: ir.Node, index: int, factor: Float64, axis: int) -> None:
    """Multiply the weight at input `index` of `reader` along `axis`.

    Quantized weights stay integers where the factor is positive and their scales lie along the same axis:
    the factor goes into the scales. Otherwise they become float.

    Args:
        graph: the graph, for the new initializers.
        reader: Conv (axis 0) or MatMul (last axis).
        index: the operand.
        factor: float64 [size of axis].
        axis: axis of the weight.
    """
    value = reader.inputs[index]
    node = quantized(value)
    assert value is not None
    if node is not None and (factor > 0).all() and _along(node, axis):
        reader.replace_input_with(index, _rescaled(graph, reader, node, factor, axis))
        return
    array = weight_array(value)
    assert array is not None
    shape = [1] * array.ndim
    shape[axis] = factor.size
    set_weight(graph, reader, index, array * factor.reshape(shape))


def set_weight(graph: ir.Graph, reader: ir.Node, index: int, array: Float64) -> None:
    """Give `reader` a new float32 constant at input `index`, under the old one's name where it has one."""
    if len(reader.inputs) <= index:
        reader.resize_inputs(index + 1)
    old = reader.inputs[index]
    node = None if old is None else quantized(old)
    source = old if node is None else node.inputs[0]
    suffix = {1: "weight", 2: "bias"}.get(index, str(index))
    name = source.name if source is not None and source.name else f"{reader.name or reader.outputs[0].name}.{suffix}"
    reader.replace_input_with(index, initializer(graph, name, array.astype(np.float32)))


def _along(node: ir.Node, axis: int) -> bool:
    scale, q = constant(node.inputs[1]), constant(node.inputs[0])
    assert scale is not None
    assert q is not None
    return scale.size == 1 or integer(node, "axis", 1) % q.ndim == axis % q.ndim


def _rescaled(graph: ir.Graph, reader: ir.Node, node: ir.Node, factor: Float64, axis: int) -> ir.Value:
    scale, zero_point = constant(node.inputs[1]), _zero_point(node)
    assert scale is not None
    new_scale = (scale.astype(np.float64).reshape(-1) * factor).astype(np.float32)
    operands: list[ir.Value | None] = [node.inputs[0], initializer(graph, f"{reader.name}.scale", new_scale)]
    if zero_point is not None:
        spread = np.broadcast_to(zero_point.reshape(-1), new_scale.shape)
        operands.append(initializer(graph, f"{reader.name}.zero_point", spread))
    new = ir.node("DequantizeLinear", operands, attributes={"axis": axis}, name=f"{node.name}.scaled")
    new.outputs[0].shape, new.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    graph.insert_before(reader, [new])
    return new.outputs[0]
