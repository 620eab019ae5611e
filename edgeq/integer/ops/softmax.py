"""Softmax by powers of two over one axis, in unsigned 32 bits; every step is written down in edgeq/integer/exp2.py.

The attributes limit, pre_shift, multiplier, shift, sum_bits and out_bits come from `exp2.softmax_constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.exp2 import LINEAR, QUADRATIC, SUM_BITS_MAX, T_MAX, SoftmaxConstants, softmax_rows
from edgeq.integer.intervals import Interval, require
from edgeq.integer.ops import probabilities
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

Array = np.ndarray[Any, np.dtype[Any]]

ATTRIBUTES = (
    Attribute("axis", default=-1),
    *(Attribute(n) for n in ("limit", "pre_shift", "multiplier", "shift", "sum_bits", "out_bits")),
    *clamp_attributes(),
)


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    check_range(call, "limit", 1, 2**31 - 1)
    check_range(call, "pre_shift", 0, 30)
    check_range(call, "multiplier", 0, 2**31 - 1)
    check_range(call, "shift", 0, 30)
    check_range(call, "sum_bits", 15, SUM_BITS_MAX)
    check_range(call, "out_bits", 8, 15)
    return probabilities.infer_rows(call)


def evaluate(
    x: Array,
    mask: Array | None,
    *,
    axis: int,
    limit: int,
    pre_shift: int,
    multiplier: int,
    shift: int,
    sum_bits: int,
    out_bits: int,
    **clamps: Any,
) -> Array:
    """Exact in int64; clamps: zero_point, low, high, to."""
    constants = SoftmaxConstants(limit, pre_shift, multiplier, shift, sum_bits, out_bits)
    return probabilities.evaluate(lambda rows, keep: softmax_rows(rows, constants, keep), x, mask, axis, clamps)


def reference(x: Array, **attrs: Any) -> Array:
    """Exact in int64."""
    return evaluate(x, None, **attrs)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """What depends on the constants, in unsigned 32 bits; the rest is bounded by construction (exp2.py)."""
    a, unsigned = call.attrs, 2**32 - 1
    first = a["limit"] + ((1 << a["pre_shift"]) >> 1)
    require(Interval.of(0, first), call.where, "the difference plus its rounding", 0, unsigned)
    require(Interval.of(0, first >> a["pre_shift"]), call.where, "the shifted difference", 0, 2**16 - 1)
    product = (first >> a["pre_shift"]) * a["multiplier"] + ((1 << a["shift"]) >> 1)
    require(Interval.of(0, product), call.where, "the scaled difference")
    return probabilities.sum_interval(call)


def write(b: Body, x: str, mask: str | None) -> str:
    """The body, with or without a mask, in int64."""
    axis = probabilities.axis_vector(b)
    d = probabilities.body_distance(b, x, mask, axis)
    a = b.round_shift(d, b.attribute("pre_shift"))
    scaled = b.round_shift(b("Mul", a, b.attribute("multiplier")), b.attribute("shift"))
    t = b("Min", scaled, b.constant(T_MAX))
    one = b.constant(2**15)
    f = b("Mod", t, one)
    whole = b("Div", b("Sub", t, f), one)
    slope = b("Sub", b.constant(LINEAR), b("Div", b("Mul", f, b.constant(QUADRATIC)), one))
    g = b("Sub", one, b.round_shift(b("Mul", f, slope), b.constant(15)))
    up = b.power(b("Sub", b.attribute("sum_bits"), b.constant(15)))
    e = probabilities.body_masked(b, b.round_shift(b("Mul", g, up), whole), mask)
    return probabilities.body_normalise(b, e, axis)


def body(b: Body, x: str) -> str:
    """In int64."""
    return write(b, x, None)


OP = register(Op("Softmax", (probabilities.X,), ATTRIBUTES, infer, reference, interval, body, derive=derive_clamp))
