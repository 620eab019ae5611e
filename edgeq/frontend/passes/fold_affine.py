"""Fold scales and shifts per channel into the weights and biases of Conv, ConvTranspose and MatMul beside them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.affine import Affine, affine_of
from edgeq.frontend.arrays import Float64
from edgeq.frontend.editing import (
    NodePass,
    constant,
    constant_input,
    initializer,
    integer,
    ints,
    is_op,
    make_node,
    only_use,
    per_axis,
    static_shape,
    supersede,
    take_over,
)
from edgeq.frontend.regions import is_matmul_bias, made_by_tables
from edgeq.frontend.weights import quantized, scale_weight, set_weight, weight_array


class FoldAffine(NodePass):
    """BatchNorm (after `BatchNormToAffine`), bias Adds, scales: gone where a linear op can take them in.

    Behind a linear op: y·s + t is folded into weight columns and bias. In front of one: into weight rows and bias,
    for a Conv only where no padding meets the shift. Only where the value in between has no other reader.
    All products are formed in float64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables: set[ir.Value] = set()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Visit every node; what belongs to a table stays with it (the 0.5 at the end of GELU costs nothing there)."""
        self.tables = made_by_tables(model.graph)
        return super().call(model)

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        affine = affine_of(node)
        if affine is None:
            return False
        return _fold_behind(graph, node, affine) or (
            affine.x not in self.tables and _fold_in_front(graph, node, affine)
        )


def _fold_behind(graph: ir.Graph, node: ir.Node, affine: Affine) -> bool:
    linear = affine.x.producer()
    if linear is None or only_use(affine.x) is not node or not is_op(linear, "Conv", "ConvTranspose", "MatMul", "Add"):
        return False
    rank_shape = static_shape(affine.x)
    assert rank_shape is not None
    rank = len(rank_shape)
    axis = 1 if is_op(linear, "Conv", "ConvTranspose") else rank - 1
    scale = per_axis(affine.scale, rank, axis, rank_shape[axis])
    shift = per_axis(affine.shift, rank, axis, rank_shape[axis])
    if scale is None or shift is None:
        return False
    if is_op(linear, "Conv", "ConvTranspose"):
        return _into_conv(graph, node, linear, scale, shift)
    return _into_matmul(graph, node, linear, scale, shift)


def _into_conv(graph: ir.Graph, node: ir.Node, conv: ir.Node, scale: Float64, shift: Float64) -> bool:
    bias = np.zeros(1) if len(conv.inputs) < 3 or conv.inputs[2] is None else weight_array(conv.inputs[2])
    weight = weight_array(conv.inputs[1])
    if weight is None or bias is None:
        return False
    if not (scale == 1).all():
        if is_op(conv, "Conv"):
            scale_weight(graph, conv, 1, scale, 0)
        else:
            group = integer(conv, "group", 1)
            # [C, N/g, …]: output channel n of group k is column n of the k-th block of rows.
            blocks = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
            factor = scale.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
            set_weight(graph, conv, 1, (blocks * factor).reshape(weight.shape))
    set_weight(graph, conv, 2, bias * scale + shift)
    return supersede(graph, node, conv.outputs[0], changed=True)


def _into_matmul(graph: ir.Graph, node: ir.Node, linear: ir.Node, scale: Float64, shift: Float64) -> bool:
    matmul = linear if is_op(linear, "MatMul") else None
    if matmul is None and is_matmul_bias(linear):
        matmul = next(v.producer() for v in linear.inputs if v is not None and constant(v) is None)
    weight = None if matmul is None else weight_array(matmul.inputs[1])
    if matmul is None or weight is None or weight.ndim != 2:
        return False
    if linear is matmul and (scale == 1).all():
        return False  # this is the bias itself
    if not (scale == 1).all():
        scale_weight(graph, matmul, 1, scale, 1)
        matmul.outputs[0].metadata_props.clear()
    if linear is not matmul:
        index = 1 if constant_input(linear, 1) is not None else 0
        bias = constant_input(linear, index)
        assert bias is not None
        total = np.broadcast_to(bias.astype(np.float64).reshape(-1), scale.shape) * scale + shift
        set_weight(graph, linear, index, total)
        return supersede(graph, node, linear.outputs[0], changed=True)
    if shift.any():
        return _become_bias(graph, node, matmul, shift)
    return supersede(graph, node, matmul.outputs[0], changed=True)


def _become_bias(graph: ir.Graph, node: ir.Node, matmul: ir.Node, shift: Float64) -> bool:
    bias = initializer(graph, f"{node.name}.bias", shift.astype(np.float32))
    output = node.outputs[0]
    add = make_node("Add", [matmul.outputs[0], bias], name=node.name, shape=static_shape(output), dtype=output.dtype)
    graph.insert_before(node, [add])
    return supersede(graph, node, add.outputs[0])


def _fold_in_front(graph: ir.Graph, node: ir.Node, affine: Affine) -> bool:
    reader = only_use(node.outputs[0])
    shape = static_shape(affine.x)
    if reader is None or shape is None or reader.inputs[0] is not node.outputs[0]:
        return False
    if not is_op(reader, "Conv", "MatMul") or quantized(reader.inputs[1]) is not None:
        return False
    axis = 1 if is_op(reader, "Conv") else len(shape) - 1
    scale = per_axis(affine.scale, len(shape), axis, shape[axis])
    shift = per_axis(affine.shift, len(shape), axis, shape[axis])
    weight = weight_array(reader.inputs[1])
    if scale is None or shift is None or weight is None:
        return False
    if is_op(reader, "Conv"):
        return _in_front_of_conv(graph, node, reader, affine.x, weight, scale, shift)
    return _in_front_of_matmul(graph, node, reader, affine.x, weight, scale, shift)


def _in_front_of_conv(
    graph: ir.Graph, node: ir.Node, conv: ir.Node, x: ir.Value, weight: Float64, scale: Float64, shift: Float64
) -> bool:
    if shift.any() and (any(ints(conv, "pads", [])) or "auto_pad" in conv.attributes):
        return False  # padding is zero behind the shift, not in front of it
    bias = np.zeros(weight.shape[0]) if len(conv.inputs) < 3 or conv.inputs[2] is None else weight_array(conv.inputs[2])
    if bias is None:
        return False
    group = integer(conv, "group", 1)
    blocks = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    per_group = (group, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    added = (blocks * shift.reshape(per_group)).reshape(weight.shape[0], -1).sum(1)
    set_weight(graph, conv, 1, (blocks * scale.reshape(per_group)).reshape(weight.shape))
    if added.any():
        set_weight(graph, conv, 2, bias + added)
    return _bypass(graph, node, conv, x)


def _in_front_of_matmul(
    graph: ir.Graph, node: ir.Node, matmul: ir.Node, x: ir.Value, weight: Float64, scale: Float64, shift: Float64
) -> bool:
    if weight.ndim != 2:
        return False
    set_weight(graph, matmul, 1, weight * scale[:, None])
    added = shift @ weight
    if added.any():
        output = matmul.outputs[0]
        bias = initializer(graph, f"{matmul.name}.bias", added.astype(np.float32))
        name = f"{matmul.name}.bias_add"
        add = make_node("Add", [output, bias], name=name, shape=static_shape(output), dtype=output.dtype)
        take_over(output, add.outputs[0])
        # The product without its bias is a new value: nothing that was said about the old one holds.
        output.name = f"{matmul.name}.product"
        output.metadata_props.clear()
        add.replace_input_with(0, output)
        graph.insert_after(matmul, [add])
    return _bypass(graph, node, matmul, x)


def _bypass(graph: ir.Graph, node: ir.Node, reader: ir.Node, x: ir.Value) -> bool:
    reader.replace_input_with(0, x)
    graph.remove(node, safe=True)
    return True
