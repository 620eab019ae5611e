"""Pad with a constant (the zero point), by reflection or by repeating the edge; constant, non-negative pads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.intervals import Interval
from edgeq.integer.ops.standard.common import Array, indices, normal_axes, standard
from edgeq.integer.registry import S8, S32, U8, Attribute, Call, Input, TensorType

DTYPES = (S8, U8, S32)


def widths(rank: int, pads: Array, axes: Array | None) -> list[tuple[int, int]]:
    """(before, after) per axis."""
    result = [(0, 0)] * rank
    chosen = range(rank) if axes is None else [int(a) % rank for a in axes]
    for i, axis in enumerate(chosen):
        result[axis] = (int(pads[i]), int(pads[i + len(chosen)]))
    return result


def infer(call: Call) -> list[TensorType]:
    """Every axis grown by its pads."""
    x, pads, mode = call.type(0), call.constant(1), call.attrs["mode"]
    axes = call.constant(3) if call.has(3) else None
    count = len(x.shape) if axes is None else len(normal_axes(call, axes.tolist(), len(x.shape)))
    if len(pads) != 2 * count or min(pads, default=0) < 0:
        raise call.fail(f"pads {pads.tolist()} must be {2 * count} numbers, none negative", "use Slice to crop")
    if mode not in ("constant", "reflect", "edge"):
        raise call.fail(f"mode {mode!r} must be constant, reflect or edge")
    if call.has(2) and call.type(2) != TensorType(x.dtype, ()):
        raise call.fail(f"constant_value is {call.type(2)}, it must be a scalar of {x.dtype.name}")
    around = widths(len(x.shape), pads, axes)
    if mode == "reflect" and any(max(w) >= n for w, n in zip(around, x.shape, strict=True)):
        raise call.fail(f"{x} can't be reflected by {around}")
    return [TensorType(x.dtype, tuple(n + sum(w) for n, w in zip(x.shape, around, strict=True)))]


def reference(
    x: Array, pads: Array, constant_value: Array | None = None, axes: Array | None = None, *, mode: str
) -> Array:
    """numpy.pad."""
    around = widths(x.ndim, pads, axes)
    if mode != "constant":
        options: dict[str, Any] = {"mode": mode}
        return np.pad(x, around, **options)
    return np.pad(x, around, constant_values=0 if constant_value is None else constant_value.item())


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """x and the padding value."""
    if call.attrs["mode"] != "constant":
        return [inputs[0].collapse()]
    value = call.constant(2).item() if call.has(2) else 0
    return [inputs[0].union(Interval.of(value, value))]


OP = standard(
    "Pad",
    (
        Input("x", DTYPES),
        indices("pads"),
        Input("constant_value", DTYPES, rank=0, optional=True, constant=True),
        indices("axes", optional=True),
    ),
    (Attribute("mode", "string", "constant"),),
    infer,
    reference,
    interval,
)
