"""Variadic Sum, Mean, Max and Min become chains of binary ops."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.editing import NodePass, initializer, is_op, make_node, replace_node, static_shape, supersede

_BINARY = {"Sum": "Add", "Mean": "Add", "Max": "Max", "Min": "Min"}


class BinarySums(NodePass):
    """One addition, maximum or minimum joins two tensors; a Mean ends in a product with 1/n."""

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if not is_op(node, *_BINARY) or (len(node.inputs) == 2 and is_op(node, "Max", "Min")):
            return False
        if len(node.inputs) == 1:
            return node.inputs[0] is not None and supersede(graph, node, node.inputs[0])
        dtype, left = node.outputs[0].dtype, node.inputs[0]
        shape: tuple[int, ...] | None = static_shape(left)
        new: list[ir.Node] = []
        for number, right in enumerate(node.inputs[1:]):
            other = static_shape(right)
            shape = None if shape is None or other is None else np.broadcast_shapes(shape, other)
            name = node.name if number == len(node.inputs) - 2 else f"{node.name}.{number}"
            new.append(make_node(_BINARY[node.op_type], [left, right], name=name, shape=shape, dtype=dtype))
            left = new[-1].outputs[0]
        if is_op(node, "Mean"):
            factor = initializer(graph, f"{node.name}.share", np.array(1 / len(node.inputs), np.float32))
            new.append(make_node("Mul", [left, factor], name=f"{node.name}.mean", shape=shape, dtype=dtype))
        replace_node(graph, node, new)
        return True
