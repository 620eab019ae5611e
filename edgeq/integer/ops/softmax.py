"""Softmax by powers of two over one axis, in unsigned 32 bits; every step is written down in edgeq/integer/exp2.py.

The attributes limit, pre_shift, multiplier, shift, sum_bits and out_bits come from `exp2.softmax_constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import INT64, Body
from edgeq.integer.exp2 import LINEAR, QUADRATIC, SUM_BITS_MAX, T_MAX, SoftmaxConstants, softmax_rows
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import (
    S8,
    S16,
    S32,
    U8,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    check_clamp,
    check_range,
    clamp_attributes,
    derive_clamp,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    x = call.type(0)
    if not -len(x.shape) <= call.attrs["axis"] < len(x.shape):
        raise call.fail(f"axis {call.attrs['axis']} is not an axis of {x}")
    check_range(call, "limit", 1, 2**31 - 1)
    check_range(call, "pre_shift", 0, 30)
    check_range(call, "multiplier", 0, 2**31 - 1)
    check_range(call, "shift", 0, 30)
    check_range(call, "sum_bits", 15, SUM_BITS_MAX)
    check_range(call, "out_bits", 8, 15)
    return [TensorType(check_clamp(call), x.shape)]


def reference(
    x: Array,
    *,
    axis: int,
    limit: int,
    pre_shift: int,
    multiplier: int,
    shift: int,
    sum_bits: int,
    out_bits: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    constants = SoftmaxConstants(limit, pre_shift, multiplier, shift, sum_bits, out_bits)
    rows = softmax_rows(np.moveaxis(x, axis, -1), constants)
    return np.ascontiguousarray(np.moveaxis(clamp(rows + zero_point, low, high, to), -1, axis))


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """What depends on the constants, in unsigned 32 bits; the rest is bounded by construction (exp2.py)."""
    a, unsigned = call.attrs, 2**32 - 1
    first = a["limit"] + ((1 << a["pre_shift"]) >> 1)
    require(Interval.of(0, first), call.where, "the difference plus its rounding", 0, unsigned)
    require(Interval.of(0, first >> a["pre_shift"]), call.where, "the shifted difference", 0, 2**16 - 1)
    product = (first >> a["pre_shift"]) * a["multiplier"] + ((1 << a["shift"]) >> 1)
    require(Interval.of(0, product), call.where, "the scaled difference")
    length = call.type(0).shape[a["axis"]]
    require(Interval.of(0, length << a["sum_bits"]), call.where, "the sum of powers", 0, 2**30)
    return [Interval.of(0, 1 << a["out_bits"]).map(lambda p: np.clip(p + a["zero_point"], a["low"], a["high"]))]


def _powers(b: Body, x: str, axis: str) -> str:
    """e of every element, Q(sum_bits)."""
    wide = b.wide(x)
    below = b("Sub", b("ReduceMax", wide, axis, keepdims=1), wide)
    d = b.least(below, b.attribute("limit"))
    a = b.round_shift(d, b.attribute("pre_shift"))
    scaled = b.round_shift(b("Mul", a, b.attribute("multiplier")), b.attribute("shift"))
    t = b("Min", scaled, b.constant(T_MAX))
    one = b.constant(2**15)
    f = b("Mod", t, one)
    whole = b("Div", b("Sub", t, f), one)
    slope = b("Sub", b.constant(LINEAR), b("Div", b("Mul", f, b.constant(QUADRATIC)), one))
    g = b("Sub", one, b.round_shift(b("Mul", f, slope), b.constant(15)))
    up = b.power(b("Sub", b.attribute("sum_bits"), b.constant(15)))
    return b.round_shift(b("Mul", g, up), whole)


def body(b: Body, x: str) -> str:
    """In int64; the bit length is the number of powers of two that the sum reaches."""
    axis = b("Reshape", b.attribute("axis"), b.vector(1))
    e = _powers(b, x, axis)
    total = b("ReduceSum", e, axis, keepdims=1)
    v = b.round_shift(e, b("Sub", b.attribute("sum_bits"), b.constant(15)))
    reached = b("GreaterOrEqual", b("Unsqueeze", total, b.vector(-1)), b.vector(*(2**k for k in range(16, 31))))
    z = b("ReduceSum", b("Cast", reached, to=INT64), b.vector(-1), keepdims=0)
    r = b("Div", b.constant(2**30), b.round_shift(total, z))
    s = b("Sub", b("Add", z, b.constant(45)), b("Add", b.attribute("sum_bits"), b.attribute("out_bits")))
    spare = b("Max", b("Sub", s, b.constant(31)), b.constant(0))
    product = b("Mul", v, b.floor_shift(r, b.power(spare)))
    return b.clamp(b.round_shift(product, b("Min", s, b.constant(31))))


OP = register(
    Op(
        "Softmax",
        (Input("x", (S8, U8, S16, S32)),),
        (
            Attribute("axis", default=-1),
            *(Attribute(n) for n in ("limit", "pre_shift", "multiplier", "shift", "sum_bits", "out_bits")),
            *clamp_attributes(),
        ),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
