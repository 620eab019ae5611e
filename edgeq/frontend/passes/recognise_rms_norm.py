"""Root-mean-square and L2 normalization become one function of the float graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import (
    NodePass,
    constant,
    initializer,
    integer,
    is_op,
    only_use,
    real,
    replace_node,
    static_shape,
    supersede,
)
from edgeq.frontend.graph import FLOAT_DOMAIN
from edgeq.frontend.norms import RMS_NORM, channel_vector, last_axis_reduction, ratio_to_root, scalar, squared

#: Keeps rows of zeros at zero in the float graph where the model's own ε vanishes in single precision.
_TINY = 1e-30


class RecogniseRmsNorm(NodePass):
    """x / sqrt(mean(x²) + ε) · γ over the last axis is `edgeq.float::RmsNormalization`(x, γ) with attribute epsilon.

    Read from the op RMSNormalization, from its parts, and from L2 normalization (x / max(‖x‖, ε), LpNormalization,
    x / sqrt(Σ x²)), which is the same with γ = 1/sqrt(n). A product with constants behind it goes into γ.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Visit every node, then add the function."""
        result = super().call(model)
        if result.modified:
            model.graph.opset_imports[FLOAT_DOMAIN] = 1
            function = _function(model.graph.opset_imports[""])
            model.functions[function.identifier()] = function
        return result

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at a node that may be the end of a normalization."""
        found = _by_op(node) or _by_root(node) or _by_norm(node)
        if found is None:
            return False
        x, gamma, epsilon = found
        operands = [x, initializer(graph, f"{node.name}.gamma", gamma)]
        new = ir.node(RMS_NORM, operands, domain=FLOAT_DOMAIN, name=node.name, attributes={"epsilon": epsilon})
        replace_node(graph, node, [new])
        while _take_scale(graph, new):
            pass
        return True


_Found = tuple[ir.Value, Array, float]


def _ready(x: ir.Value | None, node: ir.Node) -> int | None:
    """Channels, if the normalization keeps the shape of x."""
    shape = static_shape(x)
    return shape[-1] if shape and static_shape(node.outputs[0]) == shape else None


def _by_op(node: ir.Node) -> _Found | None:
    x = node.inputs[0] if node.inputs else None
    channels = _ready(x, node)
    if x is None or channels is None:
        return None
    rank = len(static_shape(x) or ())
    if is_op(node, "RMSNormalization") and integer(node, "axis", -1) % rank == rank - 1:
        gamma = channel_vector(node.inputs[1], channels)
        return None if gamma is None else (x, gamma, real(node, "epsilon", 1e-5))
    if is_op(node, "LpNormalization") and integer(node, "p", 2) == 2 and integer(node, "axis", -1) % rank == rank - 1:
        return x, _unit(channels), _TINY
    return None


def _by_root(node: ir.Node) -> _Found | None:
    ratio = ratio_to_root(node)
    channels = None if ratio is None else _ready(ratio.numerator, node)
    if ratio is None or channels is None:
        return None
    x = ratio.numerator
    if squared(last_axis_reduction(ratio.radicand, "ReduceMean")) is x:
        return x, np.ones(channels, np.float32), max(ratio.epsilon, _TINY)
    of_sum = squared(last_axis_reduction(ratio.radicand, "ReduceSum"))
    if of_sum is x or last_axis_reduction(ratio.radicand, "ReduceSumSquare") is x:
        return x, _unit(channels), max(ratio.epsilon / channels, _TINY)
    return None


def _by_norm(node: ir.Node) -> _Found | None:
    """x / max(‖x‖, ε) and x / (‖x‖ + ε), ‖x‖ by ReduceL2 or as a root, possibly expanded to the shape of x."""
    if not is_op(node, "Div") or node.inputs[0] is None:
        return None
    x, channels = node.inputs[0], _ready(node.inputs[0], node)
    value, epsilon = node.inputs[1], 0.0
    while channels is not None and value is not None and (maker := value.producer()) is not None:
        if last_axis_reduction(value, "ReduceL2") is x or _root_of_squares(value) is x:
            return x, _unit(channels), max(epsilon * epsilon / channels, _TINY)
        if is_op(maker, "Clip", "Max", "Add") and len(maker.inputs) > 1:
            limit = scalar(maker.inputs[1])
            if limit is None or limit < 0 or any(v is not None and constant(v) is None for v in maker.inputs[1:]):
                return None
            epsilon = max(epsilon, limit)
        elif not is_op(maker, "Expand"):
            return None
        value = maker.inputs[0]
    return None


def _root_of_squares(value: ir.Value) -> ir.Value | None:
    maker = value.producer()
    if not is_op(maker, "Sqrt"):
        return None
    assert maker is not None
    radicand = maker.inputs[0]
    return squared(last_axis_reduction(radicand, "ReduceSum")) or last_axis_reduction(radicand, "ReduceSumSquare")


def _unit(channels: int) -> Array:
    return np.full(channels, 1 / np.sqrt(channels), np.float32)


def _take_scale(graph: ir.Graph, norm: ir.Node) -> bool:
    output = norm.outputs[0]
    node, shape = only_use(output), static_shape(output)
    if node is None or shape is None or not is_op(node, "Mul") or static_shape(node.outputs[0]) != shape:
        return False
    others = [value for value in node.inputs if value is not output]
    vector = channel_vector(others[0], shape[-1]) if len(others) == 1 else None
    gamma = constant(norm.inputs[1])
    if vector is None or gamma is None or output.metadata_props.get("edgeq.scale"):
        return False
    norm.replace_input_with(1, initializer(graph, f"{norm.name}.scale", gamma * vector))
    return supersede(graph, node, output, changed=True)


def _function(opset: int) -> ir.Function:
    """x · γ / sqrt(mean(x²) + ε) as standard ops."""
    x, gamma = ir.Value(name="x"), ir.Value(name="gamma")
    epsilon = ir.Node("", "Constant", [], [ir.RefAttr("value_float", "epsilon", ir.AttributeType.FLOAT)])
    axes = ir.node("Constant", [], attributes={"value": ir.tensor(np.array([-1], np.int64))})
    square = ir.node("Mul", [x, x])
    mean = ir.node("ReduceMean", [square.outputs[0], axes.outputs[0]], attributes={"keepdims": 1})
    safe = ir.node("Add", [mean.outputs[0], epsilon.outputs[0]])
    root = ir.node("Sqrt", [safe.outputs[0]])
    unit = ir.node("Div", [x, root.outputs[0]])
    scaled = ir.node("Mul", [unit.outputs[0], gamma])
    nodes = [epsilon, axes, square, mean, safe, root, unit, scaled]
    for node, name in zip(nodes, ("epsilon_c", "axes", "square", "mean", "safe", "root", "unit", "y"), strict=True):
        node.outputs[0].name = name
    graph = ir.Graph([x, gamma], scaled.outputs, nodes=nodes, opset_imports={"": opset}, name=RMS_NORM)
    attribute = ir.AttrFloat32("epsilon", 1e-5)
    return ir.Function(FLOAT_DOMAIN, RMS_NORM, graph=graph, attributes=[attribute])
