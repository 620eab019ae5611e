"""ResizeLinear: bilinear resize of [N, C, H, W], 11-bit weights, one rounding; taps of `interpolation.axis_weights`.

top = (2048 − wx)·x[y0, x0] + wx·x[y0, x1], bottom alike in row y1; y = ((2048 − wy)·top + wy·bottom + 2^21) >> 22.
32 bits for 8-bit inputs, 64 for s16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import round_shift
from edgeq.integer.body import INT64, STRING, Body, Ref
from edgeq.integer.interpolation import COORDINATE_MODES, WEIGHT_BITS, axis_weights
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import SMALL, Attribute, Call, Input, Op, TensorType, check_range, register

Array = np.ndarray[Any, np.dtype[Any]]

ONE = 1 << WEIGHT_BITS


def infer(call: Call) -> list[TensorType]:
    """[N, C, H, W] -> [N, C, out_h, out_w], same dtype."""
    x, mode = call.type(0), call.attrs["mode"]
    if mode not in COORDINATE_MODES:
        raise call.fail(f"mode {mode!r} must be one of {', '.join(COORDINATE_MODES)}")
    size = tuple(check_range(call, name, 1, 2**15) for name in ("out_h", "out_w"))
    if not all(1 <= n <= 2**15 for n in x.shape[2:]):
        raise call.fail(f"x is {x}, rows and columns must be between 1 and {2**15}")
    return [TensorType(x.dtype, (*x.shape[:2], *size))]


def reference(x: Array, *, out_h: int, out_w: int, mode: str) -> Array:
    """Exact in int64."""
    rows, columns = axis_weights(mode, x.shape[2], out_h), axis_weights(mode, x.shape[3], out_w)
    wide, across, down = x.astype(np.int64), columns.weight.astype(np.int64), rows.weight.astype(np.int64)[:, None]
    lines = wide[..., columns.first] * (ONE - across) + wide[..., columns.second] * across
    mixed = lines[:, :, rows.first] * (ONE - down) + lines[:, :, rows.second] * down
    return round_shift(mixed, 2 * WEIGHT_BITS).astype(x.dtype)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """A weighted mean stays between its values; 2^22·max|x| + 2^21 is under 2^31 for 8 bits and under 2^38 for 16."""
    return [inputs[0].collapse()]


def _ratio(b: Body, size_in: str, size_out: str) -> tuple[str, str, str]:
    """(a, b, d) of interpolation.source_ratio, chosen by the mode; int64 scalars."""
    # One array holds the mode and all names, for the ReferenceEvaluator compares strings of equal storage only.
    mode = b("Unsqueeze", b("Constant", value_string=Ref("mode", STRING)), b.vector(0))
    strings = b("Concat", mode, b("Constant", value_strings=list(COORDINATE_MODES)), axis=0)
    single = b("Equal", size_out, b.constant(1))

    def chosen(name: str) -> str:
        place = b.vector(1 + COORDINATE_MODES.index(name))
        return b("Squeeze", b("Equal", b("Gather", strings, b.vector(0)), b("Gather", strings, place)))

    zero, one, two = b.constant(0), b.constant(1), b.constant(2)
    corners, plain = chosen("align_corners"), chosen("asymmetric")
    start = b("And", single, b("Or", corners, chosen("pytorch_half_pixel")))
    scale = b("Where", plain, size_in, b("Mul", size_in, two))
    scale = b("Where", corners, b("Sub", size_in, one), scale)
    offset = b("Where", b("Or", corners, plain), zero, b("Sub", size_in, size_out))
    below = b("Where", plain, size_out, b("Mul", size_out, two))
    below = b("Where", corners, b("Sub", size_out, one), below)
    return b("Where", start, zero, scale), b("Where", start, zero, offset), b("Where", start, one, below)


def _mix(b: Body, x: str, axis: int, size_in: str, size_out: str) -> str:
    """Both taps along one axis, weighted, in int64."""
    scale, offset, below = _ratio(b, size_in, size_out)
    one = b.constant(ONE)
    index = b("Range", b.constant(0), size_out, b.constant(1))
    numerator = b("Mul", b("Add", b("Mul", index, scale), offset), b.constant(2 * ONE))
    position = b.floor_shift(b("Add", numerator, below), b("Mul", below, b.constant(2)))
    last = b("Sub", size_in, b.constant(1))
    position = b("Clip", position, b.constant(0), b("Mul", last, one))
    weight = b("Mod", position, one)
    first = b("Div", b("Sub", position, weight), one)
    second = b("Min", b("Add", first, b.constant(1)), last)
    if axis == 2:
        weight = b("Unsqueeze", weight, b.vector(1))
    left = b("Mul", b("Gather", x, first, axis=axis), b("Sub", one, weight))
    return b("Add", left, b("Mul", b("Gather", x, second, axis=axis), weight))


def body(b: Body, x: str) -> str:
    """Columns, then rows, then one rounding; positions are computed from the attributes and fold away."""
    shape = b("Shape", x)
    height, width = (b("Squeeze", b("Gather", shape, b.vector(axis))) for axis in (2, 3))
    lines = _mix(b, b("Cast", x, to=INT64), 3, width, b.attribute("out_w"))
    mixed = _mix(b, lines, 2, height, b.attribute("out_h"))
    return b("CastLike", b.round_shift(mixed, b.constant(2 * WEIGHT_BITS)), x)


OP = register(
    Op(
        "ResizeLinear",
        (Input("x", SMALL, rank=4),),
        (Attribute("out_h"), Attribute("out_w"), Attribute("mode", "string", "half_pixel")),
        infer,
        reference,
        interval,
        body,
    )
)
