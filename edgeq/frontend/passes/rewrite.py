"""onnxscript's rewrite rules, with node names and metadata kept."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules import common

_RULES = (
    common.add_0_rule,
    common.sub_0_rule,
    common.mul_by_1_rule,
    common.div_by_1_rule,
    common.dropout_zero_rule,
    common.dropout_inference_rule,
    common.cast_constant_of_shape_rule,
    common.cast_constant_of_shape_without_value_rule,
    common.collapse_slice_rule,
    common.collapse_slice2_rule,
    common.no_op_cast_rule,
    common.no_op_expand_rule,
    common.no_op_transpose_rule,
    common.transpose_transpose_rule,
    common.flatten_to_reshape_rule,
    common.reshape_reshape_rule,
    common.unsqueeze_unsqueeze_rule,
    common.no_op_static_scatter_nd_rule,
    common.min_max_rule,
    common.max_min_rule,
    common.successive_relu_rule,
    common.successive_clip_rule,
    common.successive_clip_relu_rule,
    common.successive_relu_clip_rule,
    common.fuse_pad_into_conv_rule,
)


class Rewrite(ir.passes.InPlacePass):  # type: ignore[misc]
    """Apply the rules once over the graph.

    BatchNorm isn't among them: `FoldAffine` does it in float64, for every affine op, and keeps names.
    A rule's new node takes the name of the node whose output it now computes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite in place."""
        names = {value.name: node.name for node in model.graph for value in node.outputs}
        metadata = {value.name: dict(value.metadata_props) for node in model.graph for value in node.outputs}
        known = set(names.values())
        result = RewritePass(_RULES)(model)
        if result.modified:
            for node in model.graph:
                self._restore(node, names, metadata, known)
        return result

    @staticmethod
    def _restore(
        node: ir.Node,
        names: dict[str | None, str | None],
        metadata: dict[str | None, dict[str, str]],
        known: set[str | None],
    ) -> None:
        for value in node.outputs:
            if node.name not in known and value.name in names:
                node.name = names[value.name]
            value.metadata_props.update(metadata.get(value.name, {}))
