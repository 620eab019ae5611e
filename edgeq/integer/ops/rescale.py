"""Rescale: a small integer to another scale, 64-bit product.

clamp(zero_point + (((x − x_zero_point)·multiplier + (2^shift >> 1)) >> shift)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import SINGLE_SHIFT_MAX, clamp, round_shift
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
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

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    check_zero_point(call, "x_zero_point", call.type(0).dtype)
    check_range(call, "multiplier", 1, 2**31 - 1)
    check_range(call, "shift", 0, SINGLE_SHIFT_MAX)
    return [TensorType(check_clamp(call), call.type(0).shape)]


def reference(
    x: Array,
    *,
    x_zero_point: int,
    multiplier: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    product = (x.astype(np.int64) - x_zero_point) * multiplier
    return clamp(round_shift(product, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """|x − zero point| <= 2^15, so the product is under 2^46 and with 2^61 of rounding fits 64 bits. Rising in x."""
    return [inputs[0].map(lambda x: reference(x, **call.attrs))]


def body(b: Body, x: str) -> str:
    """In int64 throughout."""
    product = b("Mul", b.offset(x, "x_zero_point"), b.attribute("multiplier"))
    return b.clamp_wide(b.round_shift(product, b.attribute("shift")))


OP = register(
    Op(
        "Rescale",
        (Input("x", SMALL),),
        (Attribute("x_zero_point", default=0), Attribute("multiplier"), Attribute("shift"), *clamp_attributes()),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
