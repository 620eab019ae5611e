"""ReduceSum, ReduceMax, ArgMax: one number for each row of the axes that stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.compiler.kernels.spatial.reduce import ArgMaxSpec, ReduceSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer, ints, stored_epilogue
from edgeq.compiler.lower.select.elementwise import scale_strides


def with_reduced_axes(strides: Sequence[int], axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """An output's strides with one entry for each axis of the input; 0 where the output has lost the axis."""
    if len(strides) == rank:
        return tuple(strides)
    own = iter(strides)
    return tuple(0 if axis in axes else next(own) for axis in range(rank))


def lower_reduce_sum(ctx: Lowering, group: Group) -> None:
    """Sum over axes, requantized where a requantize follows: a mean."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    rank = len(source.shape)
    axes = [axis % rank for axis in ints(node, "axes", ())]
    out = ctx.output(group.output)
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    spec = ReduceSpec.sums(
        source.shape,
        axes,
        source.strides,
        with_reduced_axes(out.strides, axes, rank),
        with_reduced_axes(scale_strides(group, out.shape), axes, rank),
        source.dtype,
        integer(node, "x_zero_point") + source.bias,
        epilogue,
        constants,
    )
    ctx.step(spec, {"x": source, "y": out}, constants)


def lower_reduce_max(ctx: Lowering, group: Group) -> None:
    """Largest value over axes."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    rank = len(source.shape)
    axes = [int(axis) % rank for axis in constant_of(node.inputs[1], node).reshape(-1)]
    with ctx.stored_like(group.output, source) as out:
        strides = with_reduced_axes(out.strides, axes, rank)
        spec = ReduceSpec.maxima(source.shape, axes, source.strides, strides, source.dtype)
        ctx.step(spec, {"x": source, "y": out})


def lower_arg_max(ctx: Lowering, group: Group) -> None:
    """Index of the largest value along an axis."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    rank = len(source.shape)
    axis = integer(node, "axis", 0) % rank
    out = ctx.output(group.output)
    strides = with_reduced_axes(out.strides, [axis], rank)
    last = bool(integer(node, "select_last_index", 0))
    spec = ArgMaxSpec.of(source.shape, axis, source.strides, strides, source.dtype, last)
    ctx.step(spec, {"x": source, "y": out})


HANDLERS: dict[str, Any] = {
    "ReduceSum": lower_reduce_sum,
    "ReduceMax": lower_reduce_max,
    "ArgMax": lower_arg_max,
}
