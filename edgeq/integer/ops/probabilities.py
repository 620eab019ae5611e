"""What the softmax ops share: masks, checks, the proof of the sum, and the body's normalisation of a row."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import INT64, Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import BYTE, S8, S16, S32, U8, Call, Input, TensorType, check_clamp

Array = np.ndarray[Any, np.dtype[Any]]

X = Input("x", (S8, U8, S16, S32))
MASK = Input("mask", BYTE)


def infer_rows(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`; a mask must broadcast to x."""
    x = call.type(0)
    if not -len(x.shape) <= call.attrs["axis"] < len(x.shape):
        raise call.fail(f"axis {call.attrs['axis']} is not an axis of {x}")
    if len(call.types) > 1:
        mask = call.type(1)
        try:
            fits = np.broadcast_shapes(x.shape, mask.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            raise call.fail(f"mask is {mask}, it doesn't broadcast to {x}")
    return [TensorType(check_clamp(call), x.shape)]


def evaluate(
    rows: Callable[[Array, Array | None], Array], x: Array, mask: Array | None, axis: int, clamps: dict[str, Any]
) -> Array:
    """Apply `rows`, which works on the last axis, to another one; then zero point and clamp."""
    whole = None if mask is None else np.moveaxis(np.broadcast_to(mask, x.shape), axis, -1)
    found = rows(np.moveaxis(x, axis, -1), whole) + clamps["zero_point"]
    return np.ascontiguousarray(np.moveaxis(clamp(found, clamps["low"], clamps["high"], clamps["to"]), -1, axis))


def sum_interval(call: Call) -> list[Interval]:
    """The sum of a row in 31 bits; a probability is in [0, 1]."""
    a = call.attrs
    length = call.type(0).shape[a["axis"]]
    require(Interval.of(0, length << a["sum_bits"]), call.where, "the sum of powers", 0, 2**30)
    return [Interval.of(0, 1 << a["out_bits"]).map(lambda p: np.clip(p + a["zero_point"], a["low"], a["high"]))]


def mass(out_bits: int, elements: int) -> int:
    """The most that `elements` probabilities of one row can add up to, in Q(out_bits), zero point taken off.

    With the names of exp2.py: v <= e·2^(15−sum_bits) + 1/2 and m >= S·2^−z·(1 − 2^−16), so that
    y <= (2^out_bits·e/S + 2^(sum_bits+out_bits−16)/S) / (1 − 2^−16) + 1/2. A row's largest e is 2^(sum_bits−1) or more
    (exp2: 2^sum_bits), so S is too; the e of some elements add up to S or less.
    """
    ideal = Fraction(2) ** out_bits + elements * Fraction(2) ** (out_bits - 15)
    return int(ideal / (1 - Fraction(1, 2**16)) + Fraction(elements, 2))


def body_distance(b: Body, x: str, mask: str | None, axis: str) -> str:
    """min(max(x) − x, limit) in int64, not below 0; the maximum where the mask isn't 0."""
    wide = b.wide(x)
    if mask is None:
        return b.least(b("Sub", b("ReduceMax", wide, axis, keepdims=1), wide), b.attribute("limit"))
    seen = b("Where", _kept(b, mask), wide, b.constant(-(2**31)))
    below = b("Sub", b("ReduceMax", seen, axis, keepdims=1), wide)
    return b.least(b.greatest(below, b.constant(0)), b.attribute("limit"))


def body_masked(b: Body, e: str, mask: str | None) -> str:
    """e where the mask isn't 0."""
    return e if mask is None else b("Where", _kept(b, mask), e, b.constant(0))


def _kept(b: Body, mask: str) -> str:
    return b("Not", b("Equal", b.wide(mask), b.constant(0)))


def axis_vector(b: Body) -> str:
    """The attribute axis as int64 [1]."""
    return b("Reshape", b.attribute("axis"), b.vector(1))


def body_normalise(b: Body, e: str, axis: str) -> str:
    """e divided by its sum, to the output; the bit length is the number of powers of two that the sum reaches."""
    total = b("Max", b("ReduceSum", e, axis, keepdims=1), b.constant(2**15))
    v = b.round_shift(e, b("Sub", b.attribute("sum_bits"), b.constant(15)))
    reached = b("GreaterOrEqual", b("Unsqueeze", total, b.vector(-1)), b.vector(*(2**k for k in range(16, 31))))
    z = b("ReduceSum", b("Cast", reached, to=INT64), b.vector(-1), keepdims=0)
    r = b("Div", b.constant(2**30), b.round_shift(total, z))
    s = b("Sub", b("Add", z, b.constant(45)), b("Add", b.attribute("sum_bits"), b.attribute("out_bits")))
    spare = b("Max", b("Sub", s, b.constant(31)), b.constant(0))
    product = b("Mul", v, b.floor_shift(r, b.power(spare)))
    return b.clamp(b.round_shift(product, b("Min", s, b.constant(31))))
