"""LutInterp: a function of an s16 tensor as 513 points with linear interpolation (TOSA TABLE, 7 fraction bits).

j = (x + 32768) >> 7; f = x & 127; v = table[j]·(128 − f) + table[j + 1]·f;
y = clamp(zero_point + ((v + (2^shift >> 1)) >> shift)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp, round_shift
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import (
    S16,
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
    if call.type(1).shape != (513,):
        raise call.fail(f"table is {call.type(1)}, it must be [513]")
    check_range(call, "shift", 0, 30)
    return [TensorType(check_clamp(call), call.type(0).shape)]


def reference(x: Array, table: Array, *, shift: int, zero_point: int, low: int, high: int, to: np.dtype[Any]) -> Array:
    """Exact in int64."""
    position, points = x.astype(np.int64) + 32768, table.astype(np.int64)
    j, f = position >> 7, position & 127
    value = points[j] * (128 - f) + points[j + 1] * f
    return clamp(round_shift(value, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """128 times a table entry, plus rounding, in 32 bits."""
    a, shift = call.attrs, call.attrs["shift"]
    table = call.constant(1)[(inputs[0].least + 32768) >> 7 : ((inputs[0].most + 32768) >> 7) + 2]
    value = Interval.of(table.min(), table.max()).scaled(128).shifted((1 << shift) >> 1)
    require(value, call.where, "the interpolated value plus its rounding")
    return [value.map(lambda v: np.clip((v >> shift) + a["zero_point"], a["low"], a["high"]))]


def body(b: Body, x: str, table: str) -> str:
    """Two Gathers, in int64."""
    position = b("Add", b.wide(x), b.constant(32768))
    f = b("Mod", position, b.constant(128))
    j = b("Div", b("Sub", position, f), b.constant(128))
    points = b.wide(table)
    left = b("Mul", b("Gather", points, j), b("Sub", b.constant(128), f))
    right = b("Mul", b("Gather", points, b("Add", j, b.constant(1))), f)
    return b.clamp(b.round_shift(b("Add", left, right), b.attribute("shift")))


OP = register(
    Op(
        "LutInterp",
        (Input("x", (S16,)), Input("table", (S16,), rank=1, constant=True)),
        (Attribute("shift"), *clamp_attributes()),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
