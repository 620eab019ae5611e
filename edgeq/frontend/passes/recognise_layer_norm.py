"""Layer normalization written as means, squares and a root becomes LayerNormalization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import (
    NodePass,
    initializer,
    integer,
    is_op,
    make_node,
    only_use,
    replace_node,
    static_shape,
    supersede,
)
from edgeq.frontend.norms import Ratio, channel_vector, last_axis_reduction, ratio_to_root, squared


class RecogniseLayerNorm(NodePass):
    """(x − mean(x)) / sqrt(mean((x − mean(x))²) + ε) · γ + β over the last axis, γ and β optional.

    Divisions by a root, products with its reciprocal or with a power of −1/2, squares as Pow or Mul; variance also as
    mean(x²) − mean(x)². γ and β that follow an existing LayerNormalization without its own are taken in as well.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at a node that might be the quotient, or the scale or shift behind one."""
        if is_op(node, "LayerNormalization"):
            return _complete(graph, node)
        ratio = ratio_to_root(node)
        x = None if ratio is None else _centred(ratio)
        if ratio is None or x is None:
            return False
        shape = static_shape(x)
        if shape is None or static_shape(node.outputs[0]) != shape:
            return False
        scale = initializer(graph, f"{node.name}.gamma", np.ones(shape[-1], np.float32))
        attributes: dict[str, object] = {"axis": len(shape) - 1, "epsilon": ratio.epsilon}
        new = make_node(
            "LayerNormalization", [x, scale], name=node.name, shape=shape, dtype=x.dtype, attributes=attributes
        )
        replace_node(graph, node, [new])
        _absorb(graph, new)
        return True


def _centred(ratio: Ratio) -> ir.Value | None:
    """x, if the numerator is x − mean(x) and the radicand is its variance."""
    minus = ratio.numerator.producer()
    if not is_op(minus, "Sub"):
        return None
    assert minus is not None
    x = minus.inputs[0]
    if x is None or last_axis_reduction(minus.inputs[1], "ReduceMean") is not x:
        return None
    return x if _is_variance(ratio.radicand, x, minus) else None


def _is_variance(value: ir.Value, x: ir.Value, minus: ir.Node) -> bool:
    source = squared(last_axis_reduction(value, "ReduceMean"))
    if source is not None:
        # The difference may be computed twice.
        other = source.producer()
        if other is None or source is minus.outputs[0]:
            return other is not None
        return is_op(other, "Sub") and other.inputs[0] is x and last_axis_reduction(other.inputs[1], "ReduceMean") is x
    maker = value.producer()
    if not is_op(maker, "Sub"):
        return False
    assert maker is not None
    first = squared(last_axis_reduction(maker.inputs[0], "ReduceMean"))
    return first is x and last_axis_reduction(squared(maker.inputs[1]), "ReduceMean") is x


def _complete(graph: ir.Graph, node: ir.Node) -> bool:
    """A scale and shift of its own where they are constants of another shape or missing."""
    shape = static_shape(node.inputs[0])
    if shape is None or integer(node, "axis", -1) % len(shape) != len(shape) - 1:
        return False
    return _absorb(graph, node)


def _absorb(graph: ir.Graph, norm: ir.Node) -> bool:
    """Take in a product with and a sum of constants behind the normalization."""
    changed = False
    while True:
        follower = only_use(norm.outputs[0])
        taken = follower is not None and (_take_scale(graph, norm, follower) or _take_shift(graph, norm, follower))
        if not taken:
            return changed
        changed = True


def _parameters(norm: ir.Node, channels: int) -> tuple[Array, Array] | None:
    gamma = channel_vector(norm.inputs[1], channels)
    beta: Array = np.zeros(channels, np.float32)
    if len(norm.inputs) > 2 and norm.inputs[2] is not None:
        given = channel_vector(norm.inputs[2], channels)
        if given is None:
            return None
        beta = given
    return None if gamma is None else (gamma, beta)


def _take_scale(graph: ir.Graph, norm: ir.Node, node: ir.Node) -> bool:
    return is_op(node, "Mul") and _take(graph, norm, node, scale=True)


def _take_shift(graph: ir.Graph, norm: ir.Node, node: ir.Node) -> bool:
    return is_op(node, "Add") and _take(graph, norm, node, scale=False)


def _take(graph: ir.Graph, norm: ir.Node, node: ir.Node, *, scale: bool) -> bool:
    output, x = norm.outputs[0], norm.inputs[0]
    shape = static_shape(x)
    if shape is None or static_shape(node.outputs[0]) != shape or output.metadata_props.get("edgeq.scale"):
        return False
    parameters = _parameters(norm, shape[-1])
    others = [value for value in node.inputs if value is not output]
    vector = channel_vector(others[0], shape[-1]) if len(others) == 1 else None
    if parameters is None or vector is None:
        return False
    gamma, beta = parameters
    gamma, beta = (gamma * vector, beta * vector) if scale else (gamma, beta + vector)
    operands = [
        x,
        initializer(graph, f"{norm.name}.scale", gamma.astype(np.float32)),
        initializer(graph, f"{norm.name}.shift", beta.astype(np.float32)),
    ]
    for index, operand in enumerate(operands):
        if len(norm.inputs) <= index:
            norm.resize_inputs(index + 1)
        norm.replace_input_with(index, operand)
    return supersede(graph, node, output, changed=True)
