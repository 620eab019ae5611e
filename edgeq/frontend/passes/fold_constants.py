"""Fold what doesn't depend on an input, and infer shapes on the way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript.optimizer import _constant_folding

from edgeq.frontend.editing import constant, initializer, integer, is_op, static_shape

# Weights of the largest edge models stay under it; what a hostile file could ask for doesn't.
_MAX_ELEMENTS = 1 << 26
_KEEP = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


class FoldConstants(ir.passes.InPlacePass):  # type: ignore[misc]
    """onnxscript's constant folding and incremental shape inference, with limits fit for weights.

    QuantizeLinear and DequantizeLinear stay: `TakeOffQdq` decides about them. A result of more than 2^26 elements,
    or of a size unknown beforehand, isn't computed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold in place."""
        fold = _constant_folding.FoldConstantsPass(
            shape_inference=True,
            input_size_limit=_MAX_ELEMENTS,
            output_size_limit=_MAX_ELEMENTS,
            should_fold=_should_fold,
        )
        modified = bool(fold(model).modified)
        for node in tuple(model.graph):
            if is_op(node, "Split"):
                modified |= _fold_split(model.graph, node)
        return ir.passes.PassResult(model, modified)


def _should_fold(node: ir.Node) -> bool:
    if node.domain or node.op_type in _KEEP:
        return False
    shape = static_shape(node.outputs[0])
    return shape is not None and int(np.prod(shape, dtype=np.float64)) <= _MAX_ELEMENTS


def _fold_split(graph: ir.Graph, node: ir.Node) -> bool:
    # The stock folding leaves ops with several outputs alone; exporters split shapes.
    array, shapes = constant(node.inputs[0]), [static_shape(output) for output in node.outputs]
    if array is None or any(shape is None for shape in shapes):
        return False
    axis = integer(node, "axis", 0)
    sizes = [shape[axis] for shape in shapes if shape is not None]
    parts = np.split(array, np.cumsum(sizes)[:-1], axis)
    for output, part in zip(node.outputs, parts, strict=True):
        if output.is_graph_output():
            return False
        output.replace_all_uses_with(initializer(graph, f"{output.name}.folded", part))
    graph.remove(node, safe=True)
    return True
