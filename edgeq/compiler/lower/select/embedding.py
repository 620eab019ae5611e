"""Embedding of token numbers, and masks as they are given."""

from __future__ import annotations

from math import prod
from typing import Any

from edgeq.compiler.kernels.elementwise.to_mask import ToMaskSpec
from edgeq.compiler.kernels.movement.embedding import EmbeddingSpec
from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group


def lower_embedding(ctx: Lowering, group: Group) -> None:
    """Rows of a table in the weights, [rows, …] seen as [rows, width]."""
    node = group.main
    table, indices = (ctx.view(value, node) for value in node.inputs[:2])
    lead = len(indices.shape)
    rows, width = table.shape[0], prod(table.shape[1:])
    with ctx.stored_like(group.output, table) as result:
        dense, out = result, result.reshape((*indices.shape, width))
        if out is None or (width > 1 and out.strides[-1] != 1):
            plain = tuple(range(len(result.shape)))
            dense = ctx.allocate(f"{group.output.name} rows", result.shape, result.dtype, result.bias, plain)
            out = dense.reshape((*indices.shape, width))
        assert out is not None
        spec = EmbeddingSpec(
            indices.shape, indices.strides, out.strides[:lead], rows, width, table.dtype, indices.dtype
        )
        ctx.step(spec, {"table": table, "indices": indices, "y": out})
        if dense is not result:
            ctx.copy(dense, result)


def lower_to_mask(ctx: Lowering, group: Group) -> None:
    """1 where the input isn't 0."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    spec = ToMaskSpec(
        source.shape, source.strides, out.strides, source.dtype, out.dtype, source.bias, out.bias, out.bias + 1
    )
    ctx.step(spec, {"x": source, "y": out})


HANDLERS: dict[str, Any] = {"Embedding": lower_embedding, "ToMask": lower_to_mask}
