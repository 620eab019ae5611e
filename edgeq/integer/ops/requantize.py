"""Requantize: s32 accumulator to 8 or 16 bits, numerics form `single`.

clamp(zero_point + ((acc·multiplier + 2^(shift−1)) >> shift)), product in 64 bits; multiplier in [2^30, 2^31), shift in
[2, 62].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import SINGLE_SHIFT_MAX, SINGLE_SHIFT_MIN, requantize_single
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import (
    S32,
    Call,
    Input,
    Op,
    TensorType,
    check_clamp,
    clamp_attributes,
    derive_clamp,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]

INPUTS = (Input("acc", (S32,)), Input("multiplier", (S32,), constant=True), Input("shift", (S32,), constant=True))


def check_constants(call: Call, multiplier: tuple[int, int], shift: tuple[int, int]) -> None:
    """multiplier and shift inside their ranges, and of shapes that broadcast against acc without growing it."""
    for index, (name, (low, high)) in enumerate((("multiplier", multiplier), ("shift", shift)), start=1):
        value, shape = call.constant(index), call.type(0).shape
        if value.size and not (low <= int(value.min()) and int(value.max()) <= high):
            raise call.fail(f"{name} must be in [{low}, {high}], found [{value.min()}, {value.max()}]")
        try:
            fits = np.broadcast_shapes(shape, value.shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise call.fail(f"{name} of shape {list(value.shape)} doesn't broadcast to {call.type(0)}")


def infer(call: Call) -> list[TensorType]:
    """Shape of acc, dtype `to`."""
    check_constants(call, (2**30, 2**31 - 1), (SINGLE_SHIFT_MIN, SINGLE_SHIFT_MAX))
    return [TensorType(check_clamp(call), call.type(0).shape)]


def reference(
    acc: Array, multiplier: Array, shift: Array, *, zero_point: int, low: int, high: int, to: np.dtype[Any]
) -> Array:
    """Exact in int64."""
    return requantize_single(acc, multiplier, shift, zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """|acc·multiplier| < 2^62 and 2^(shift−1) <= 2^61 fit 64 bits for every s32 accumulator; rising in acc."""
    a, constants = call.attrs, (call.constant(1), call.constant(2))
    return [inputs[0].map(lambda acc: reference(acc, *constants, **a)).collapse()]


def body(b: Body, acc: str, multiplier: str, shift: str) -> str:
    """In int64 throughout."""
    return b.clamp_wide(b.round_shift(b("Mul", b.wide(acc), b.wide(multiplier)), b.wide(shift)))


OP = register(Op("Requantize", INPUTS, clamp_attributes(), infer, reference, interval, body, derive=derive_clamp))
