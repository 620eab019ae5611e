"""ShiftGelu: x·σ(1.702·x) by shifts and one 2^30 reciprocal, elementwise; see edgeq/integer/shift_exp.py.

The attributes left, pre_shift, octave, head, multiplier and shift come from `shift_exp.shift_gelu_constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.ops.shifts import body_power, check_grid
from edgeq.integer.registry import (
    SMALL,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    check_clamp,
    check_range,
    check_zero_point,
    clamp_attributes,
    derive_clamp,
    register,
)
from edgeq.integer.shift_exp import HEADS, ONE_BITS, ShiftGeluConstants, shift_gelu

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    x = call.type(0)
    check_zero_point(call, "x_zero_point", x.dtype)
    check_grid(call)
    check_range(call, "head", HEADS[x.dtype], HEADS[x.dtype])
    check_range(call, "multiplier", 1, 2**15 - 1)
    check_range(call, "shift", 0, 30)
    return [TensorType(check_clamp(call), x.shape)]


def reference(
    x: Array,
    *,
    x_zero_point: int,
    left: int,
    pre_shift: int,
    octave: int,
    head: int,
    multiplier: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    constants = ShiftGeluConstants(left, pre_shift, octave, head, multiplier, shift)
    return clamp(shift_gelu(x.astype(np.int64) - x_zero_point, constants) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """The grid in 31 bits; the function's values are those of x's whole interval."""
    a = call.attrs
    x = inputs[0].shifted(-a["x_zero_point"])
    most = max(abs(x.least), abs(x.most))
    first = (most << a["left"]) + ((1 << a["pre_shift"]) >> 1)
    require(Interval.of(0, first), call.where, "the magnitude plus its rounding")
    require(Interval.of(0, 3 * (first >> a["pre_shift"])), call.where, "the shifted magnitude")
    # |h| <= |x|·2^15 >> head <= 2^15 and multiplier < 2^15: the last product is under 2^30, its rounding at most 2^29.
    domain = np.arange(inputs[0].least, inputs[0].most + 1)
    found = reference(domain, **a)
    return [Interval.of(found.min(), found.max())]


def body(b: Body, x: str) -> str:
    """In int64 throughout."""
    moved = b.offset(x, "x_zero_point")
    w = b.round_shift(b("Mul", b("Abs", moved), b.power(b.attribute("left"))), b.attribute("pre_shift"))
    p = b("Add", b("Mul", w, b.constant(2)), b("Add", b("Div", w, b.constant(2)), b("Div", w, b.constant(16))))
    e = body_power(b, p, b.constant(ONE_BITS))
    one = b("Mul", b.attribute("octave"), b.constant(2 << ONE_BITS))
    reciprocal = b("Div", b.constant(2**30), b("Add", one, e))
    top = b("Where", b("Less", moved, b.constant(0)), e, one)
    g = b.round_shift(b("Mul", top, reciprocal), b.constant(15))
    h = b.round_shift(b("Mul", moved, g), b.attribute("head"))
    return b.clamp(b.round_shift(b("Mul", h, b.attribute("multiplier")), b.attribute("shift")))


OP = register(
    Op(
        "ShiftGelu",
        (Input("x", SMALL),),
        (
            Attribute("x_zero_point", default=0),
            *(Attribute(n) for n in ("left", "pre_shift", "octave", "head", "multiplier", "shift")),
            *clamp_attributes(),
        ),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
