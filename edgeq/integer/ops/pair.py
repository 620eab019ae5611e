"""What Add, Max and Min share: two inputs brought to one scale by multipliers over a common shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import (
    SMALL,
    Attribute,
    Call,
    Input,
    TensorType,
    broadcast,
    check_clamp,
    check_range,
    check_zero_point,
    clamp_attributes,
)

Array = np.ndarray[Any, np.dtype[Any]]

INPUTS = (Input("a", SMALL), Input("b", SMALL))
ATTRIBUTES = (
    Attribute("a_zero_point", default=0),
    Attribute("b_zero_point", default=0),
    Attribute("a_multiplier"),
    Attribute("b_multiplier"),
    Attribute("shift"),
    *clamp_attributes(),
)


def infer(call: Call) -> list[TensorType]:
    """Broadcast shape, dtype `to`."""
    check_zero_point(call, "a_zero_point", call.type(0).dtype)
    check_zero_point(call, "b_zero_point", call.type(1).dtype)
    check_range(call, "shift", 0, 30)
    for name in ("a_multiplier", "b_multiplier"):
        check_range(call, name, -(2**31) + 1, 2**31 - 1)
    return [TensorType(check_clamp(call), broadcast(call, 0, 1))]


def products(call: Call, inputs: Sequence[Interval]) -> tuple[Interval, Interval]:
    """Intervals of (a − a_zero_point)·a_multiplier and of the same for b, proven in 32 bits."""
    result = []
    for name, given in zip("ab", inputs, strict=True):
        scaled = given.shifted(-call.attrs[f"{name}_zero_point"]).scaled(call.attrs[f"{name}_multiplier"])
        result.append(require(scaled, call.where, f"the product with {name}_multiplier"))
    return result[0], result[1]


def rounded(call: Call, value: Interval, what: str) -> Interval:
    """Interval of value + (2^shift >> 1), proven in 32 bits, shifted down."""
    shift = call.attrs["shift"]
    return require(value.shifted((1 << shift) >> 1), call.where, what).map(lambda v: v >> shift)


def clamped(call: Call, value: Interval) -> Interval:
    """After zero point and clamp."""
    a = call.attrs
    return value.map(lambda v: np.clip(v + a["zero_point"], a["low"], a["high"]))


def sides(b: Body, left: str, right: str) -> tuple[str, str]:
    """Both products in int64."""
    return (
        b("Mul", b.offset(left, "a_zero_point"), b.attribute("a_multiplier")),
        b("Mul", b.offset(right, "b_zero_point"), b.attribute("b_multiplier")),
    )
