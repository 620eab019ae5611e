"""BatchNormalization in inference is a scale and a shift per channel: write it so."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.errors import UnsupportedOpError
from edgeq.frontend.editing import (
    NodePass,
    constant_input,
    describe,
    initializer,
    integer,
    is_op,
    make_node,
    real,
    replace_node,
    static_shape,
)


class BatchNormToAffine(NodePass):
    """BatchNormalization(x) = x · γ/√(σ² + ε) + (β − μ·γ/√(σ² + ε)), as Mul and Add, constants formed in float64.

    Raises:
        UnsupportedOpError: training mode, or statistics that aren't constant.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if not is_op(node, "BatchNormalization"):
            return False
        constants = [constant_input(node, index) for index in range(1, 5)]
        used = [output for output in node.outputs[1:] if output.uses() or output.is_graph_output()]
        if integer(node, "training_mode", 0) or used or any(array is None for array in constants):
            raise UnsupportedOpError(
                f"{describe(node)} is in training mode or its statistics are computed",
                where=describe(node),
                why="only a BatchNormalization with constant scale, bias, mean and variance can be folded",
                hint="export the model in evaluation mode",
            )
        gamma, beta, mean, variance = (array.astype(np.float64) for array in constants if array is not None)
        scale = gamma / np.sqrt(variance + real(node, "epsilon", 1e-5))
        self._replace(graph, node, scale, beta - mean * scale)
        return True

    @staticmethod
    def _replace(graph: ir.Graph, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> None:
        x, dtype = node.inputs[0], node.outputs[0].dtype
        shape = static_shape(x)
        rank = 2 if shape is None else len(shape)
        channels = [-1] + [1] * (rank - 2)
        factor = initializer(graph, f"{node.name}.scale", scale.astype(np.float32).reshape(channels))
        offset = initializer(graph, f"{node.name}.shift", shift.astype(np.float32).reshape(channels))
        mul = make_node("Mul", [x, factor], name=f"{node.name}.scale", shape=shape, dtype=dtype)
        add = make_node("Add", [mul.outputs[0], offset], name=node.name, shape=shape, dtype=dtype)
        node.resize_outputs(1)
        replace_node(graph, node, [mul, add])
