"""Resize (nearest neighbour): repeated pixels are strides, anything else picks rows and columns by index tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES
from edgeq.compiler.kernels.movement.copy import GatherSpec
from edgeq.compiler.kernels.spatial.resize import ResizeLinearSpec
from edgeq.compiler.lower.context import NHWC, Lowering, shape_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import text
from edgeq.compiler.program import View, strides_in_order
from edgeq.integer.interpolation import nearest_indices

Array = np.ndarray[Any, np.dtype[Any]]


def lower_resize(ctx: Lowering, group: Group) -> None:
    """Nearest-neighbour resize of rows and columns."""
    node = group.main
    assert node.inputs[0] is not None
    source, _ = ctx.image(node.inputs[0])
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    nearest = text(node, "nearest_mode", "round_prefer_floor")
    shape = shape_of(group.output)
    rows, columns = (nearest_indices(coordinates, nearest, source.shape[i], shape[i]) for i in (2, 3))
    with ctx.stored_like(group.output, source) as out:
        factors = _repetition(rows, source.shape[2]), _repetition(columns, source.shape[3])
        if all(factors):
            _repeat(ctx, source, out, factors[0], factors[1])
        else:
            _pick(ctx, source, out, rows, columns)


def _repetition(indices: Array, size: int) -> int:
    """n where every source index stands n times in order, else 0."""
    factor = len(indices) // size
    same = len(indices) == factor * size and np.array_equal(indices, np.repeat(np.arange(size), factor))
    return factor if same else 0


def _repeat(ctx: Lowering, source: View, out: View, down: int, across: int) -> None:
    n, c, h, w = source.shape
    blocks = (n, c, h, down, w, across)
    flat = source.reshape((n, c, h, 1, w, 1))
    target = out.reshape(blocks)
    assert flat is not None
    assert target is not None  # cutting an axis in two never needs a copy
    ctx.copy(flat.broadcast_to(blocks), target)


def _pick(ctx: Lowering, source: View, out: View, rows: Array, columns: Array) -> None:
    """Columns first, into a dense image; then whole rows."""
    n, c, h, w = source.shape
    dense = _dense(ctx, source)
    middle = ctx.allocate("resize columns", (n, c, h, len(columns)), source.dtype, source.bias, NHWC)
    size = DTYPE_BYTES[source.dtype]
    wide = len(columns) * c
    across = GatherSpec(n * h, len(columns), c, w, w * c, c, wide, c, size)
    ctx.step(across, {"x": dense, "y": middle}, {"index": columns})
    whole = out if _is_dense(out) else ctx.allocate("resize rows", out.shape, out.dtype, out.bias, NHWC)
    down = GatherSpec(n, len(rows), wide, h, h * wide, wide, len(rows) * wide, wide, size)
    ctx.step(down, {"x": middle, "y": whole}, {"index": rows})
    if whole is not out:
        ctx.copy(whole, out)


def _is_dense(view: View) -> bool:
    wanted = replace(view, strides=strides_in_order(view.shape, NHWC))
    return view.effective_strides() == wanted.effective_strides()


def _dense(ctx: Lowering, view: View) -> View:
    if _is_dense(view):
        return view
    copy = ctx.allocate("resize source", view.shape, view.dtype, view.bias, NHWC)
    ctx.copy(view, copy)
    return copy


def lower_resize_linear(ctx: Lowering, group: Group) -> None:
    """Bilinear resize with 11-bit weights."""
    node = group.main
    assert node.inputs[0] is not None
    source, x = ctx.image(node.inputs[0])
    with ctx.stored_like(group.output, source) as out:
        y = out.image()
        assert y is not None
        spec = ResizeLinearSpec(x, y, text(node, "mode", "half_pixel"), source.dtype)
        ctx.step(spec, {"x": source, "y": out})


HANDLERS: dict[str, Any] = {"Resize": lower_resize, "ResizeLinear": lower_resize_linear}
