"""Scales of queries and keys move behind their product: a softmax over 32-bit logits takes them in for nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.affine import affine_of
from edgeq.frontend.editing import NodePass, constant, initializer, is_op, make_node, only_use, static_shape

_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand")
_LOGIT_OPS = ("Mul", "Div", "Add", "Sub", "Where", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Tanh")


class SinkScales(NodePass):
    """(s·Q)(t·K)ᵀ becomes (s·t)·(QKᵀ) where a Softmax follows; s and t are positive scalars."""

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one product of two computed tensors."""
        if not is_op(node, "MatMul") or any(constant(value) is not None for value in node.inputs):
            return False
        if not _leads_to_softmax(node):
            return False
        factor = 1.0
        for index in range(2):
            scale = _unscale(graph, node, index)
            while scale is not None:
                factor *= scale
                scale = _unscale(graph, node, index)
        if factor == 1.0:
            return False
        _scale_behind(graph, node, factor)
        return True


def _leads_to_softmax(node: ir.Node) -> bool:
    seen = 0
    while seen < 8 and not is_op(node, "Softmax"):
        follower = only_use(node.outputs[0])
        if follower is None or not is_op(follower, "Softmax", *_LOGIT_OPS):
            return False
        node, seen = follower, seen + 1
    return is_op(node, "Softmax")


def _unscale(graph: ir.Graph, product: ir.Node, index: int) -> float | None:
    """Take the nearest scale out of one side, through data movement; None if there is none to take."""
    value = product.inputs[index]
    while value is not None and (maker := value.producer()) is not None and only_use(value) is not None:
        affine = affine_of(maker)
        if affine is not None:
            if affine.scale.size != 1 or affine.shift.any() or float(affine.scale.reshape(())) <= 0:
                return None
            for use in tuple(value.uses()):
                use.node.replace_input_with(use.idx, affine.x)
            graph.remove(maker, safe=True)
            return float(affine.scale.reshape(()))
        if not is_op(maker, *_MOVES):
            return None
        value = maker.inputs[0]
    return None


def _scale_behind(graph: ir.Graph, product: ir.Node, factor: float) -> None:
    output = product.outputs[0]
    constant_factor = initializer(graph, f"{product.name}.scale", np.array(factor, np.float32))
    shape = static_shape(output)
    scaled = make_node("Mul", [output, constant_factor], name=f"{product.name}.scaled", shape=shape, dtype=output.dtype)
    graph.insert_after(product, [scaled])
    for use in tuple(output.uses()):
        if use.node is not scaled:
            use.node.replace_input_with(use.idx, scaled.outputs[0])
    # What was said about the values on the way spoke of the scaled ones.
    output.metadata_props.clear()
