"""Max: the larger of two inputs, each rescaled and rounded as Add would, then zero point and clamp."""

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
    left = round_shift((a.astype(np.int64) - a_zero_point) * a_multiplier, shift)
    right = round_shift((b.astype(np.int64) - b_zero_point) * b_multiplier, shift)
    return clamp(np.maximum(left, right) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Both products plus rounding in 32 bits."""
    a, b = (pair.rounded(call, side, "a product plus its rounding").collapse() for side in pair.products(call, inputs))
    return [pair.clamped(call, Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high)))]


def body(b: Body, left: str, right: str) -> str:
    """In int64 throughout."""
    sides = (b.round_shift(side, b.attribute("shift")) for side in pair.sides(b, left, right))
    return b.clamp(b("Max", *sides))


OP = register(Op("Max", pair.INPUTS, pair.ATTRIBUTES, pair.infer, reference, interval, body, derive=derive_clamp))
