"""Quantized constants: weights stay integers, everything else becomes float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import NodePass, constant, initializer, integer, ints, is_op, make_node, replace_node
from edgeq.frontend.weights import quantized, weight_array

_WEIGHT_READERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


class QuantizedConstants(NodePass):
    """Compute Q of constants (and a Clip of the integers behind it); take DQ of constants off where no weight needs it.

    The DequantizeLinear on integers stays in front of Conv, ConvTranspose, MatMul and Gemm weights. Any other
    dequantized constant (biases, tables, operands of sums) becomes float32. A Transpose behind it moves the integers.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if is_op(node, "QuantizeLinear"):
            return _quantize_constant(graph, node)
        if is_op(node, "Clip"):
            return _clip_constant(graph, node)
        return is_op(node, "DequantizeLinear") and _dequantize_constant(graph, node)


def _quantize_constant(graph: ir.Graph, node: ir.Node) -> bool:
    x, scale = constant(node.inputs[0]), constant(node.inputs[1])
    zero_point: Array | None = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if x is None or scale is None or zero_point is None or node.outputs[0].is_graph_output():
        return False
    if zero_point.dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        return False
    shape = [1] * x.ndim
    if scale.size > 1:
        shape[integer(node, "axis", 1)] = scale.size
    # ONNX divides in float32 and rounds half to even.
    q = np.rint(x.astype(np.float32) / scale.astype(np.float32).reshape(shape)) + zero_point.reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    array = np.clip(q, limits.min, limits.max).astype(zero_point.dtype)
    node.outputs[0].replace_all_uses_with(initializer(graph, f"{node.inputs[0].name}.quantized", array))
    graph.remove(node, safe=True)
    return True


def _clip_constant(graph: ir.Graph, node: ir.Node) -> bool:
    """Quantized weights of a narrow range: the Clip behind their Q."""
    q = constant(node.inputs[0])
    limits = [constant(value) for value in node.inputs[1:] if value is not None]
    if q is None or q.dtype.kind not in "iu" or any(limit is None for limit in limits):
        return False
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    high = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    clipped = q if low is None else np.maximum(q, low)
    clipped = clipped if high is None else np.minimum(clipped, high)
    node.outputs[0].replace_all_uses_with(initializer(graph, f"{node.inputs[0].name}.narrow", clipped))
    graph.remove(node, safe=True)
    return True


def _dequantize_constant(graph: ir.Graph, node: ir.Node) -> bool:
    output = node.outputs[0]
    for use in tuple(output.uses()):
        if is_op(use.node, "Transpose"):
            moved = _transposed(graph, node, use.node)
            if moved is not None:
                _dequantize_constant(graph, moved)
    if not output.uses() and not output.is_graph_output():
        graph.remove(node, safe=True)
        return True
    readers = [(use.node, use.idx) for use in output.uses()]
    if readers and all(is_op(reader, *_WEIGHT_READERS) and index == 1 for reader, index in readers):
        return False
    array = weight_array(output)
    if quantized(output) is None or array is None or output.is_graph_output():
        return False
    dense = initializer(graph, f"{node.inputs[0].name}.dequantized", array.astype(np.float32))
    for reader, index in readers:
        if not (is_op(reader, *_WEIGHT_READERS) and index == 1):
            reader.replace_input_with(index, dense)
    if not output.uses():
        graph.remove(node, safe=True)
    return True


def _transposed(graph: ir.Graph, node: ir.Node, transpose: ir.Node) -> ir.Node | None:
    """DequantizeLinear of transposed integers in the place of a Transpose; None where the DQ can't be moved."""
    q, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if quantized(node.outputs[0]) is None or q is None or scale is None or transpose.outputs[0].is_graph_output():
        return None
    order = ints(transpose, "perm", list(range(q.ndim))[::-1])
    axis = order.index(integer(node, "axis", 1) % q.ndim) if scale.size > 1 else 0
    operands = [initializer(graph, f"{node.inputs[0].name}.transposed", q.transpose(order)), *node.inputs[1:]]
    moved = make_node(
        "DequantizeLinear",
        operands,
        name=transpose.name,
        shape=[q.shape[k] for k in order],
        dtype=node.outputs[0].dtype,
        attributes={"axis": axis} if scale.size > 1 else {},
    )
    replace_node(graph, transpose, [moved])
    return moved
