"""Shiftmax: softmax by shifts (I-ViT's form, its faults mended) over one axis; see edgeq/integer/shift_exp.py.

The attributes limit, left, pre_shift, octave, sum_bits and out_bits come from `shift_exp.shiftmax_constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.ops import probabilities
from edgeq.integer.ops.shifts import body_power, check_grid
from edgeq.integer.registry import (
    Attribute,
    Call,
    Op,
    TensorType,
    check_range,
    clamp_attributes,
    derive_clamp,
    register,
)
from edgeq.integer.shift_exp import SUM_BITS_MAX, SUM_BITS_MIN, ShiftmaxConstants, shiftmax_rows

Array = np.ndarray[Any, np.dtype[Any]]

ATTRIBUTES = (
    Attribute("axis", default=-1),
    *(Attribute(n) for n in ("limit", "left", "pre_shift", "octave", "sum_bits", "out_bits")),
    *clamp_attributes(),
)


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    check_range(call, "limit", 1, 2**31 - 1)
    check_grid(call)
    check_range(call, "sum_bits", SUM_BITS_MIN, SUM_BITS_MAX)
    check_range(call, "out_bits", 8, 15)
    return probabilities.infer_rows(call)


def evaluate(
    x: Array,
    mask: Array | None,
    *,
    axis: int,
    limit: int,
    left: int,
    pre_shift: int,
    octave: int,
    sum_bits: int,
    out_bits: int,
    **clamps: Any,
) -> Array:
    """Exact in int64; clamps: zero_point, low, high, to."""
    constants = ShiftmaxConstants(limit, left, pre_shift, octave, sum_bits, out_bits)
    return probabilities.evaluate(lambda rows, keep: shiftmax_rows(rows, constants, keep), x, mask, axis, clamps)


def reference(x: Array, **attrs: Any) -> Array:
    """Exact in int64."""
    return evaluate(x, None, **attrs)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """What depends on the constants; the rest is bounded by construction (shift_exp.py)."""
    a = call.attrs
    first = (a["limit"] << a["left"]) + ((1 << a["pre_shift"]) >> 1)
    require(Interval.of(0, first), call.where, "the difference plus its rounding", 0, 2**32 - 1)
    require(Interval.of(0, 3 * (first >> a["pre_shift"])), call.where, "the shifted difference", 0, 2**32 - 1)
    return probabilities.sum_interval(call)


def write(b: Body, x: str, mask: str | None) -> str:
    """The body, with or without a mask, in int64."""
    axis = probabilities.axis_vector(b)
    d = b("Mul", probabilities.body_distance(b, x, mask, axis), b.power(b.attribute("left")))
    w = b.round_shift(d, b.attribute("pre_shift"))
    p = b("Sub", b("Add", w, b("Div", w, b.constant(2))), b("Div", w, b.constant(32)))
    e = body_power(b, p, b("Sub", b.attribute("sum_bits"), b.constant(12)))
    return probabilities.body_normalise(b, probabilities.body_masked(b, e, mask), axis)


def body(b: Body, x: str) -> str:
    """In int64."""
    return write(b, x, None)


OP = register(Op("Shiftmax", (probabilities.X,), ATTRIBUTES, infer, reference, interval, body, derive=derive_clamp))
