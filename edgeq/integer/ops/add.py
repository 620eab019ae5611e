"""Add: clamp(zero_point + (((a − za)·a_multiplier + (b − zb)·b_multiplier + 2^(shift−1)) >> shift)).

A negative multiplier makes it a subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp, round_shift
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.ops import pair
from edgeq.integer.registry import Call, Op, derive_clamp, register

Array = np.ndarray[Any, np.dtype[Any]]


def reference(
    a: Array,
    b: Array,
    *,
    a_zero_point: int,
    b_zero_point: int,
    a_multiplier: int,
    b_multiplier: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64, broadcasting."""
    total = (a.astype(np.int64) - a_zero_point) * a_multiplier + (b.astype(np.int64) - b_zero_point) * b_multiplier
    return clamp(round_shift(total, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Both products, their sum and the sum plus rounding in 32 bits."""
    a, b = pair.products(call, inputs)
    return [pair.clamped(call, pair.rounded(call, a.plus(b), "the sum plus its rounding")).collapse()]


def body(b: Body, left: str, right: str) -> str:
    """In int64 throughout."""
    return b.clamp(b.round_shift(b("Add", *pair.sides(b, left, right)), b.attribute("shift")))


OP = register(Op("Add", pair.INPUTS, pair.ATTRIBUTES, pair.infer, reference, interval, body, derive=derive_clamp))
