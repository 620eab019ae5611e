"""Data movement: views wherever strides can say it, copies elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgeq.compiler.lower.context import Lowering, constant_of, shape_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer, ints, text
from edgeq.compiler.program import View
from edgeq.errors import CompileError


def lower_reshape(ctx: Lowering, group: Group) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: a view of the input, or of a row-major copy of it."""
    source = group.main.inputs[0]
    assert source is not None
    shape = shape_of(group.output)
    view = ctx.view(source, group.main).reshape(shape)
    if view is None:
        view = ctx.row_major(source).reshape(shape)
    assert view is not None
    settle(ctx, group, view)


def settle(ctx: Lowering, group: Group, view: View) -> None:
    """The group's result is this view: taken as it is, or copied to the place that was decided for it."""
    output = group.output
    placement = ctx.placement
    if output in placement.host or any(placement.halo.get(output, ())):
        ctx.copy(view, ctx.output(output))
    else:
        ctx.views[output] = view


def lower_transpose(ctx: Lowering, group: Group) -> None:
    """Axes in another order: strides only."""
    view = ctx.view(group.main.inputs[0], group.main)
    axes = ints(group.main, "perm", tuple(reversed(range(len(view.shape)))))
    settle(ctx, group, view.permute(axes))


def lower_expand(ctx: Lowering, group: Group) -> None:
    """Repetition: stride 0."""
    settle(ctx, group, ctx.view(group.main.inputs[0], group.main).broadcast_to(shape_of(group.output)))


def lower_slice(ctx: Lowering, group: Group) -> None:
    """Constant starts, ends, axes, steps: an offset and longer strides."""
    node = group.main
    view = ctx.view(node.inputs[0], node)
    starts, ends = (constant_of(node.inputs[i], node).reshape(-1).tolist() for i in (1, 2))
    optional = [node.inputs[i] if len(node.inputs) > i else None for i in (3, 4)]
    axes = constant_of(optional[0], node).reshape(-1).tolist() if optional[0] is not None else range(len(starts))
    steps = constant_of(optional[1], node).reshape(-1).tolist() if optional[1] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(view.shape)  # noqa: PLW2901 - negative axes count from the end
        positions = range(*slice(start, end, step).indices(view.shape[axis]))
        first = positions.start if positions else 0
        view = view.narrow(axis, first, len(positions), step)
    if node.inputs[0] in ctx.placement.raw and not ctx.readable(group.output, view):
        ctx.copy(view, ctx.output(group.output))
    else:
        settle(ctx, group, view)


def lower_split(ctx: Lowering, group: Group) -> None:
    """Consecutive parts of one axis."""
    node = group.main
    view = ctx.view(node.inputs[0], node)
    axis = integer(node, "axis", 0) % len(view.shape)
    start = 0
    for output in node.outputs:
        length = shape_of(output)[axis]
        part = view.narrow(axis, start, length)
        if output in ctx.placement.host or any(ctx.placement.halo.get(output, ())):
            ctx.copy(part, ctx.output(output))
        else:
            ctx.views[output] = part
        start += length


def lower_identity(ctx: Lowering, group: Group) -> None:
    """Another name for the same view."""
    settle(ctx, group, ctx.view(group.main.inputs[0], group.main))


def lower_concat(ctx: Lowering, group: Group) -> None:
    """Inputs that were written in place cost nothing; the others are copied into their slices."""
    node = group.main
    known = [ctx.views[value] for value in node.inputs if value in ctx.views]
    out = ctx.output(group.output, known[0] if known else None)
    axis = integer(node, "axis") % len(out.shape)
    start = 0
    for value in node.inputs:
        assert value is not None
        length = shape_of(value)[axis]
        if ctx.placement.host.get(value) != (group.output, axis, start):
            ctx.copy(ctx.view(value, node), out.narrow(axis, start, length))
        start += length
    ctx.settle_border(group.output)


def lower_pad(ctx: Lowering, group: Group) -> None:
    """Padding: the inside is copied, the border filled or mirrored from it; negative pads crop."""
    node = group.main
    mode = text(node, "mode", "constant")
    view = ctx.view(node.inputs[0], node)
    before, after = pad_amounts(group, len(view.shape))
    out = ctx.output(group.output)
    if mode == "constant":
        value = 0
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            value = int(constant_of(node.inputs[2], node).reshape(-1)[0])
        ctx.copy(_broadcast_constant(ctx, value, view, out), out)
    inside = out
    for axis in range(len(view.shape)):
        crop = max(-before[axis], 0)
        length = view.shape[axis] - crop - max(-after[axis], 0)
        view = view.narrow(axis, crop, length)
        inside = inside.narrow(axis, max(before[axis], 0), length)
    ctx.copy(view, inside)
    if mode != "constant":
        _mirror_borders(ctx, mode, out, view.shape, [max(b, 0) for b in before], [max(a, 0) for a in after])


def pad_amounts(group: Group, rank: int) -> tuple[list[int], list[int]]:
    """Elements before and after each axis."""
    node = group.main
    pads = constant_of(node.inputs[1], node).reshape(-1).tolist()
    axes = list(range(rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [int(a) % rank for a in constant_of(node.inputs[3], node).reshape(-1)]
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[len(pads) // 2 + position]
    return before, after


def _mirror_borders(
    ctx: Lowering, mode: str, out: View, inner: tuple[int, ...], before: Sequence[int], after: Sequence[int]
) -> None:
    """Axis by axis, so that corners come from borders that are there already."""
    for axis, (size, lead, trail) in enumerate(zip(inner, before, after, strict=True)):
        rest = out
        for other in range(axis + 1, len(inner)):
            rest = rest.narrow(other, before[other], inner[other])
        first, last = lead, lead + size - 1
        for start, length, at_end in ((0, lead, False), (last + 1, trail, True)):
            if not length:
                continue
            if mode == "edge":
                source = rest.narrow(axis, last if at_end else first, 1)
                source = source.broadcast_to(rest.narrow(axis, start, length).shape)
            else:
                source = rest.narrow(axis, last - 1 if at_end else first + length, length, -1)
            ctx.copy(source, rest.narrow(axis, start, length))


def _broadcast_constant(ctx: Lowering, value: int, like: View, out: View) -> View:
    dtypes = {"s8": np.int8, "u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64}
    bound = ctx.constant(np.full(1, value + like.bias, dtypes[like.dtype]))
    scalar = View(bound.buffer, like.dtype, (1,), (0,), bias=like.bias, region="weights")
    return scalar.broadcast_to(out.shape)


def lower_depth_to_space(ctx: Lowering, group: Group) -> None:
    """Blocks of channels become pixels: one strided copy."""
    node = group.main
    block = integer(node, "blocksize")
    n, c, h, w = shape_of(group.output)
    view = ctx.view(node.inputs[0], node)
    if text(node, "mode", "DCR") == "DCR":
        split = view.reshape((n, block, block, c, h // block, w // block))
        axes: Sequence[int] = (0, 3, 4, 1, 5, 2)
    else:
        split = view.reshape((n, c, block, block, h // block, w // block))
        axes = (0, 1, 4, 2, 5, 3)
    _copy_blocks(ctx, group, split, axes, (n, c, h // block, block, w // block, block))


def lower_space_to_depth(ctx: Lowering, group: Group) -> None:
    """Blocks of pixels become channels: one strided copy."""
    node = group.main
    block = integer(node, "blocksize")
    view = ctx.view(node.inputs[0], node)
    n, c, h, w = view.shape
    split = view.reshape((n, c, h // block, block, w // block, block))
    _copy_blocks(ctx, group, split, (0, 3, 5, 1, 2, 4), (n, block, block, c, h // block, w // block))


def _copy_blocks(ctx: Lowering, group: Group, split: View | None, axes: Sequence[int], blocks: tuple[int, ...]) -> None:
    """Copies a blocked view, its axes permuted, into the output seen as the same blocks."""
    out = ctx.output(group.output)
    target = out.reshape(blocks)
    if split is None or target is None:
        raise CompileError(f"{group.op} on a layout that can't be cut into blocks", where=f"node {group.name!r}")
    ctx.copy(split.permute(tuple(axes)), target)


def lower_gather(ctx: Lowering, group: Group) -> None:
    """Constant indices: a view where they are evenly spaced, else one copy per slice through an index table."""
    node = group.main
    view = ctx.view(node.inputs[0], node)
    axis = integer(node, "axis", 0) % len(view.shape)
    indices = constant_of(node.inputs[1], node)
    flat = [int(i) % view.shape[axis] for i in indices.reshape(-1)]
    steps = {b - a for a, b in itertools.pairwise(flat)}
    if len(steps) <= 1 and flat:
        part = view.narrow(axis, flat[0], len(flat), steps.pop() if steps else 1)
        shape = (*view.shape[:axis], *indices.shape, *view.shape[axis + 1 :])
        reshaped = part.reshape(shape)
        if reshaped is not None:
            settle(ctx, group, reshaped)
            return
    _gather_slices(ctx, group, view, axis, flat, indices.shape)


def _gather_slices(
    ctx: Lowering, group: Group, view: View, axis: int, flat: list[int], index_shape: tuple[int, ...]
) -> None:
    out = ctx.output(group.output)
    for place, index in zip(np.ndindex(*index_shape), flat, strict=True):
        target = out
        for depth, position in enumerate(place):
            target = target.narrow(axis + depth, position, 1)
        source = view.narrow(axis, index, 1).reshape(target.shape)
        assert source is not None  # only axes of length 1 come and go
        ctx.copy(source, target)


HANDLERS = {
    "Reshape": lower_reshape,
    "Flatten": lower_reshape,
    "Squeeze": lower_reshape,
    "Unsqueeze": lower_reshape,
    "Transpose": lower_transpose,
    "Expand": lower_expand,
    "Slice": lower_slice,
    "Split": lower_split,
    "Identity": lower_identity,
    "Concat": lower_concat,
    "Pad": lower_pad,
    "DepthToSpace": lower_depth_to_space,
    "SpaceToDepth": lower_space_to_depth,
    "Gather": lower_gather,
}
