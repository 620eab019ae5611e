"""Embedding of token numbers, and masks as they are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.elementwise.to_mask import ToMaskSpec
from edgeq.compiler.kernels.movement.embedding import EmbeddingSpec
from edgeq.compiler.kernels.movement.scaled_embedding import ScaledEmbeddingSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.lower.select.elementwise import clamp
from edgeq.compiler.program import View


def lower_embedding(ctx: Lowering, group: Group) -> None:
    """Rows of a table in the weights, [rows, …] seen as [rows, width]."""
    node = group.main
    table, indices = (ctx.view(value, node) for value in node.inputs[:2])
    lead, width = len(indices.shape), prod(table.shape[1:])
    with ctx.stored_like(group.output, table) as result, _rows(ctx, group, result, indices) as out:
        spec = EmbeddingSpec(
            indices.shape, indices.strides, out.strides[:lead], table.shape[0], width, table.dtype, indices.dtype
        )
        ctx.step(spec, {"table": table, "indices": indices, "y": out})


def lower_scaled_embedding(ctx: Lowering, group: Group) -> None:
    """Rows of a table of narrow numbers, stored in as few bits as hold it; a byte each where that is asked for."""
    node = group.main
    table, multiplier = (constant_of(value, node) for value in node.inputs[:2])
    indices, result = ctx.view(node.inputs[2], node), ctx.output(group.output)
    with _rows(ctx, group, result, indices) as out:
        spec = ScaledEmbeddingSpec(
            indices.shape,
            indices.strides,
            out.strides[: len(indices.shape)],
            len(table),
            prod(table.shape[1:]),
            8 if ctx.storage_of(node) == "fast" else narrow.least_bits(table),
            indices.dtype,
            out.dtype,
            integer(node, "shift"),
            **clamp(group, out),
        )
        ctx.step(spec, {"indices": indices, "y": out}, {"table": table, "multiplier": multiplier})


@contextmanager
def _rows(ctx: Lowering, group: Group, result: View, indices: View) -> Iterator[View]:
    """Where a lookup writes, seen as [indices …, width] with contiguous rows; copied afterwards where `result` has
    none."""
    shape = (*indices.shape, prod(result.shape[len(indices.shape) :]))
    out = result.reshape(shape)
    if out is not None and (shape[-1] == 1 or out.strides[-1] == 1):
        yield out
        return
    plain = tuple(range(len(result.shape)))
    dense = ctx.allocate(f"{group.output.name} rows", result.shape, result.dtype, result.bias, plain)
    rows = dense.reshape(shape)
    assert rows is not None
    yield rows
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


HANDLERS: dict[str, Any] = {
    "Embedding": lower_embedding,
    "ScaledEmbedding": lower_scaled_embedding,
    "ToMask": lower_to_mask,
}
