"""One spelling of a matrix product with constant weights: MatMul, then Add of a bias [N]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import (
    NodePass,
    constant,
    constant_input,
    initializer,
    integer,
    is_op,
    make_node,
    per_axis,
    real,
    replace_node,
    static_shape,
)
from edgeq.frontend.regions import is_matmul_bias
from edgeq.frontend.weights import quantized, weight_array


class CanonicalMatMul(NodePass):
    """Gemm becomes MatMul + Add (alpha, beta, transB go into the constants); a bias becomes a vector on the right."""

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if is_op(node, "Gemm"):
            _gemm(graph, node)
            return True
        return is_matmul_bias(node) and _plain_bias(graph, node)


def _plain_bias(graph: ir.Graph, node: ir.Node) -> bool:
    index = 1 if constant_input(node, 1) is not None else 0
    bias, shape = constant_input(node, index), static_shape(node.outputs[0])
    assert bias is not None
    assert shape is not None
    if index == 1 and bias.shape == shape[-1:]:
        return False
    vector = per_axis(bias.astype(np.float64), len(shape), len(shape) - 1, shape[-1])
    assert vector is not None
    x, old = node.inputs[1 - index], node.inputs[index]
    assert old is not None
    node.replace_input_with(0, x)
    node.replace_input_with(1, initializer(graph, f"{old.name}", vector.astype(np.float32)))
    return True


def _gemm(graph: ir.Graph, node: ir.Node) -> None:
    output = node.outputs[0]
    shape, name = static_shape(output), node.name
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    new: list[ir.Node] = []
    a, b = node.inputs[0], node.inputs[1]
    if integer(node, "transA", 0):
        a = _transposed(graph, new, a, f"{name}.a")
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    right, left_over = _right_side(graph, new, node, b, alpha)
    new.append(make_node("MatMul", [a, right], name=name, shape=shape, dtype=output.dtype))
    if left_over != 1.0:
        new.append(_product(graph, new[-1].outputs[0], left_over, f"{name}.alpha", shape))
    if addend is not None and beta != 0.0:
        new.append(_addition(graph, new, node, addend, beta))
    replace_node(graph, node, new)


def _right_side(
    graph: ir.Graph, new: list[ir.Node], node: ir.Node, b: ir.Value | None, alpha: float
) -> tuple[ir.Value, float]:
    """B as MatMul wants it, and the factor that could not go into it."""
    assert b is not None
    transposed = bool(integer(node, "transB", 0))
    weight, dequantize = constant(b), quantized(b)
    if weight is None and dequantize is not None and alpha == 1.0:
        return (_transposed_integers(graph, new, dequantize) if transposed else b), 1.0
    dense = weight_array(b) if weight is None else weight.astype(np.float64)
    if dense is not None:
        if not transposed and alpha == 1.0 and weight is not None:
            return b, 1.0
        array = (dense.T if transposed else dense) * alpha
        return initializer(graph, b.name or f"{node.name}.weight", array.astype(np.float32)), 1.0
    return (_transposed(graph, new, b, f"{node.name}.b") if transposed else b), alpha


def _transposed_integers(graph: ir.Graph, new: list[ir.Node], node: ir.Node) -> ir.Value:
    q, scale = constant(node.inputs[0]), constant(node.inputs[1])
    assert q is not None
    assert scale is not None
    operands = [initializer(graph, node.inputs[0].name or "weight", q.T), *node.inputs[1:]]
    axis = 1 - integer(node, "axis", 1) % 2
    attributes: dict[str, object] = {"axis": axis} if scale.size > 1 else {}
    dtype = node.outputs[0].dtype
    new.append(
        make_node("DequantizeLinear", operands, name=node.name, shape=q.T.shape, dtype=dtype, attributes=attributes)
    )
    return new[-1].outputs[0]


def _transposed(graph: ir.Graph, new: list[ir.Node], value: ir.Value | None, name: str) -> ir.Value:
    assert value is not None
    array: Array | None = constant(value)
    if array is not None:
        return initializer(graph, f"{value.name}.T", array.T)
    shape = static_shape(value)
    flipped = None if shape is None else shape[::-1]
    new.append(
        make_node("Transpose", [value], name=name, shape=flipped, dtype=value.dtype, attributes={"perm": [1, 0]})
    )
    return new[-1].outputs[0]


def _product(graph: ir.Graph, x: ir.Value, factor: float, name: str, shape: tuple[int, ...] | None) -> ir.Node:
    constant_factor = initializer(graph, f"{name}.factor", np.array(factor, np.float32))
    return make_node("Mul", [x, constant_factor], name=name, shape=shape, dtype=x.dtype)


def _addition(graph: ir.Graph, new: list[ir.Node], node: ir.Node, addend: ir.Value, beta: float) -> ir.Node:
    output = node.outputs[0]
    shape, bias = static_shape(output), weight_array(addend)
    if bias is not None:
        # [N] where the bias is one per column; a bias per row or element keeps its shape and is an ordinary Add.
        vector = None if shape is None else per_axis(bias, 2, 1, shape[1])
        array = (bias if vector is None else vector) * beta
        addend = initializer(graph, addend.name or f"{node.name}.bias", array.astype(np.float32))
    elif beta != 1.0:
        new.append(_product(graph, addend, beta, f"{node.name}.beta", static_shape(addend)))
        addend = new[-1].outputs[0]
        product = new.pop()
        new.insert(0, product)
    left = new[-1].outputs[0]
    return make_node("Add", [left, addend], name=f"{node.name}.bias_add", shape=shape, dtype=output.dtype)
