"""Div: quotient of two computed tensors, rounded half up, 64-bit.

With n = (a − za)·multiplier and d = (b − zb)·2^shift, both negated where d < 0: clamp(zero_point + (2n + d) // (2d)).
d = 0 gives high, low or clamp(zero_point) as n is above, below or equal to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import (
    SMALL,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    broadcast,
    check_clamp,
    check_range,
    check_zero_point,
    clamp_attributes,
    derive_clamp,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]

FAR = 2**20
"""Stands for an infinite quotient: past every clamp, whatever the zero point."""


def infer(call: Call) -> list[TensorType]:
    """Broadcast shape, dtype `to`."""
    check_zero_point(call, "a_zero_point", call.type(0).dtype)
    check_zero_point(call, "b_zero_point", call.type(1).dtype)
    check_range(call, "multiplier", 1, 2**15 - 1)
    check_range(call, "shift", 0, 30)
    return [TensorType(check_clamp(call), broadcast(call, 0, 1))]


def reference(
    a: Array,
    b: Array,
    *,
    a_zero_point: int,
    b_zero_point: int,
    multiplier: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64, broadcasting."""
    n = (a.astype(np.int64) - a_zero_point) * multiplier
    d = (b.astype(np.int64) - b_zero_point) << shift
    n, d = np.where(d < 0, -n, n), np.abs(d)
    quotient = (2 * n + d) // np.maximum(2 * d, 1)
    return clamp(np.where(d == 0, np.sign(n) * FAR, quotient) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """|2n + d| < 2^31 + 2^46 and 2d <= 2^46 fit 64 bits whatever the inputs; the quotient may be anything."""
    return [Interval.of(call.attrs["low"], call.attrs["high"])]


def body(b: Body, left: str, right: str) -> str:
    """In int64; floor division as (v − mod(v, d)) / d with d > 0."""
    # ONNX Runtime's Sign is wrong for some int64 past 32 bits (2^31 gives −1), so it sees the small operands only.
    top, bottom = b.offset(left, "a_zero_point"), b.offset(right, "b_zero_point")
    n = b("Mul", b("Mul", top, b.attribute("multiplier")), b("Sign", bottom))
    d = b("Mul", b("Abs", bottom), b.power(b.attribute("shift")))
    twice = b("Where", b("Equal", d, b.constant(0)), b.constant(1), b("Mul", d, b.constant(2)))
    quotient = b.floor_shift(b("Add", b("Mul", n, b.constant(2)), d), twice)
    far = b("Mul", b("Sign", top), b.constant(FAR))
    return b.clamp_wide(b("Where", b("Equal", d, b.constant(0)), far, quotient))


OP = register(
    Op(
        "Div",
        (Input("a", SMALL), Input("b", SMALL)),
        (
            Attribute("a_zero_point", default=0),
            Attribute("b_zero_point", default=0),
            Attribute("multiplier"),
            Attribute("shift"),
            *clamp_attributes(),
        ),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
