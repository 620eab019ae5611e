"""Bring every model to one spelling: opset 18 or the lowest later one that has its ops in these versions."""

from __future__ import annotations

import numpy as np
import onnx.defs
import onnx_ir as ir

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.frontend.editing import constant_input, describe, initializer, ints, is_op

OLDEST_OPSET = 13
# From opset 18 on the axes of every reduction are an input, and Split names its number of outputs.
LOWEST_OPSET = 18
# Every ONNX Runtime that the project accepts executes this opset, the newest release this one.
COMMON_OPSET, HIGHEST_OPSET = 21, 26
# Q and DQ of 16 bits; LowerQonnx makes them in models of any opset.
_QUANTIZED_16_BIT = 21
_AXES_BECAME_INPUT = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip


class RaiseOpset(ir.passes.InPlacePass):  # type: ignore[misc]
    """Rewrite what changed between opsets 13 and 18, then relabel the model with the lowest opset that fits.

    The relabelling is what makes files of an opset newer than ONNX Runtime's usable: most of their ops are older.

    Raises:
        ModelError: the opset is missing, older than 13, or newer than the installed onnx package.
        UnsupportedOpError: an op exists only in opsets that ONNX Runtime doesn't execute yet.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert in place."""
        opset = model.graph.opset_imports.get("")
        newest = onnx.defs.onnx_opset_version()
        if opset is None or not OLDEST_OPSET <= opset <= newest:
            raise ModelError(
                "The model has no ONNX opset" if opset is None else f"The model's ONNX opset is {opset}",
                why=f"opsets {OLDEST_OPSET} to {newest} are read",
                hint="export it again with opset 17 or newer"
                if opset is None or opset < OLDEST_OPSET
                else "install a newer onnx package",
            )
        for node in tuple(model.graph):
            if opset < LOWEST_OPSET:
                _to_18(model.graph, node)
        lowest = max(opset, LOWEST_OPSET)
        target = max([LOWEST_OPSET, *(_since(node, lowest) for node in model.graph if node.domain == "")])
        model.graph.opset_imports[""] = target
        for node in model.graph:
            node.version = None
        return ir.passes.PassResult(model, target != opset)


def _to_18(graph: ir.Graph, node: ir.Node) -> None:
    if is_op(node, *_AXES_BECAME_INPUT) and "axes" in node.attributes:
        axes = initializer(graph, f"{node.outputs[0].name}.axes", np.array(ints(node, "axes", []), np.int64))
        node.attributes.pop("axes")
        node.resize_inputs(2)
        node.replace_input_with(1, axes)
    elif is_op(node, "Split") and (len(node.inputs) < 2 or node.inputs[1] is None):
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _is_16_bit(node: ir.Node) -> bool:
    zero_point = constant_input(node, 2)
    return zero_point is not None and zero_point.dtype.itemsize == 2


def _since(node: ir.Node, opset: int) -> int:
    """The lowest opset in which the node means the same."""
    if is_op(node, "QuantizeLinear", "DequantizeLinear") and _is_16_bit(node):
        return max(opset, _QUANTIZED_16_BIT)
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    for target in (COMMON_OPSET, HIGHEST_OPSET):
        if schema.since_version <= target:
            return int(schema.since_version)
        if onnx.defs.has(node.op_type, target, ""):
            older = onnx.defs.get_schema(node.op_type, target, "")
            # Later versions that only take more dtypes read the same; a new attribute matters where it is used.
            if set(node.attributes) <= set(older.attributes) and len(node.inputs) <= older.max_input:
                return int(older.since_version)
    raise UnsupportedOpError(
        f"{describe(node)} needs opset {schema.since_version}",
        where=describe(node),
        why=f"ONNX Runtime executes opsets up to {HIGHEST_OPSET}",
        hint=f"export the model with opset {HIGHEST_OPSET} or older",
    )
