"""The op Attention (opset 23 and newer) becomes what it stands for: products, scale, mask, softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import NodePass, describe, integer, is_op, real, static_shape

#: Added to logits that don't count. −inf would make rows without any key NaN.
_MASKED = -1e9
_MASK, _PAST_KEY = 3, 4


class ExpandAttention(NodePass):
    """softmax(scale · Q Kᵀ + mask) V, heads on axis 1.

    Grouped queries repeat the keys and values of their group. Caches (past and present keys), `softcap` and the
    output of the logits have no counterpart here.

    Raises:
        UnsupportedOpError: one of these is used; the message names the layer.
        ModelError: head counts that don't fit the shapes.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Expand one node."""
        if not is_op(node, "Attention"):
            return False
        _refuse_variants(node)
        q, k, v = (_heads(graph, node, index) for index in range(3))
        if k.shape[1] != q.shape[1]:
            k, v = (_repeated(node, side, q.shape[1]) for side in (k, v))
        scale = real(node, "scale", 1 / math.sqrt(q.shape[-1]))
        logits = q.op("MatMul", ".logits", k.transpose(0, 1, 3, 2, suffix=".kt"))
        logits = _masked(node, logits.op("Mul", ".scale", np.array(scale, np.float32)))
        probabilities = logits.op("Softmax", ".softmax", axis=3)
        result = probabilities.op("MatMul", "", v)
        output = static_shape(node.outputs[0])
        if output is not None and len(output) == 3:
            result = result.transpose(0, 2, 1, 3, suffix=".merge").reshape(output, suffix=".merged")
        result.replace(node)
        return True


@dataclass(frozen=True)
class _Variant:
    used: bool
    what: str


def _refuse_variants(node: ir.Node) -> None:
    given = [value is not None for value in node.inputs]
    variants = [
        _Variant(any(given[_PAST_KEY:6]), "it reads a cache of keys and values (past_key, past_value)"),
        _Variant(any(given[6:]), "it reads lengths of the key sequences (nonpad_kv_seqlen)"),
        _Variant(any(output.uses() or output.is_graph_output() for output in node.outputs[1:]), "its cache or logits "
                 "are outputs of their own"),
        _Variant(real(node, "softcap", 0.0) != 0.0, "softcap limits its logits"),
    ]  # fmt: skip
    for variant in variants:
        if variant.used:
            raise UnsupportedOpError(
                f"{describe(node)} is a variant of attention that has no integer form",
                where=describe(node),
                why=variant.what,
                hint="export the model without it (torch: dynamo=True with opset_version=20 writes attention as its "
                "parts)",
            )


def _heads(graph: ir.Graph, node: ir.Node, index: int) -> Chain:
    """Q, K or V as [batch, heads, length, size]."""
    value, shape = node.inputs[index], static_shape(node.inputs[index])
    if value is None or shape is None or len(shape) not in (3, 4):
        raise ModelError(f"{describe(node)} has no static shape of rank 3 or 4 at input {index}", where=describe(node))
    chain = Chain(graph, node, value, f".{'qkv'[index]}")
    if len(shape) == 4:
        return chain
    heads = integer(node, "q_num_heads" if index == 0 else "kv_num_heads", 0)
    if heads < 1 or shape[2] % heads:
        raise ModelError(f"{describe(node)} divides {shape[2]} channels into {heads} heads", where=describe(node))
    split = chain.reshape((shape[0], shape[1], heads, shape[2] // heads), suffix=".split")
    return split.transpose(0, 2, 1, 3, suffix=".heads")


def _repeated(node: ir.Node, side: Chain, heads: int) -> Chain:
    """[batch, groups, …] with each group repeated for the query heads that share it."""
    batch, groups, length, size = side.shape
    if heads % groups:
        raise ModelError(f"{describe(node)} shares {groups} key heads among {heads} query heads", where=describe(node))
    wide = side.reshape((batch, groups, 1, length, size), suffix=".group")
    target = np.array((batch, groups, heads // groups, length, size), np.int64)
    return wide.op("Expand", ".repeat", target).reshape((batch, heads, length, size), suffix=".repeated")


def _masked(node: ir.Node, logits: Chain) -> Chain:
    mask = node.inputs[_MASK] if len(node.inputs) > _MASK else None
    if integer(node, "is_causal", 0):
        future = np.triu(np.full(logits.shape[2:], _MASKED, np.float32), 1)
        logits = logits.op("Add", ".causal", future)
    if mask is None:
        return logits
    if mask.dtype == ir.DataType.BOOL:
        return logits.where(mask, np.array(_MASKED, np.float32), suffix=".mask")
    return logits.op("Add", ".mask", mask)
