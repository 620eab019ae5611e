"""RequantizeNarrow: s32 accumulator to 8 bits without a 64-bit product, numerics form `narrow`.

a = sat16((acc + (2^shift >> 1)) >> shift), of a negative shift sat16(acc << −shift); t = (a·multiplier + 2^14) >> 15;
clamp(zero_point + ((t + (2^post_shift >> 1)) >> post_shift)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import (
    NARROW_POST_MAX,
    NARROW_SHIFT_MAX,
    NARROW_SHIFT_MIN,
    NARROW_SHIFT_SPAN,
    narrow_left,
    narrow_rounding,
    requantize_narrow,
)
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.ops.requantize import INPUTS, check_constants
from edgeq.integer.registry import (
    BYTE,
    Attribute,
    Call,
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
    """Shape of acc, dtype `to` (s8 or u8)."""
    check_constants(call, (1, 2**15 - 1), (NARROW_SHIFT_MIN, NARROW_SHIFT_MAX))
    _check_span(call)
    check_range(call, "post_shift", 0, NARROW_POST_MAX)
    return [TensorType(check_clamp(call, BYTE), call.type(0).shape)]


def _check_span(call: Call) -> None:
    shift = call.constant(2)
    if shift.size and int(shift.max()) + narrow_left(shift) > NARROW_SHIFT_SPAN:
        raise call.fail(f"shifts must lie within {NARROW_SHIFT_SPAN}, found [{shift.min()}, {shift.max()}]")


def reference(
    acc: Array,
    multiplier: Array,
    shift: Array,
    *,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
    post_shift: int,
) -> Array:
    """Exact in int64."""
    return requantize_narrow(acc, multiplier, shift, post_shift, zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """acc + (2^shift >> 1), times 2^left, must fit 32 bits; then |a·multiplier| + 2^14 < 2^30 + 2^14. Rising in acc.

    All channels are moved to the left by as much as the least shift asks for.
    """
    shift = call.constant(2)
    half, factor = narrow_rounding(shift), np.int64(1) << narrow_left(shift)
    rounded = inputs[0].plus(Interval.of(half, half))
    require(rounded.map(lambda acc: acc * factor), call.where, "the accumulator plus its rounding")
    a, constants = call.attrs, (call.constant(1), shift)
    return [inputs[0].map(lambda acc: reference(acc, *constants, **a)).collapse()]


def body(b: Body, acc: str, multiplier: str, shift: str) -> str:
    """In int64 throughout."""
    none = b.constant(0)
    right = b("Max", b.wide(shift), none)
    factor = b("Pow", b.constant(2), b("Sub", right, b.wide(shift)))
    first = b.round_shift(b("Mul", b.wide(acc), factor), right)
    a = b("Clip", first, b.constant(-32768), b.constant(32767))
    t = b.round_shift(b("Mul", a, b.wide(multiplier)), b.constant(15))
    return b.clamp(b.round_shift(t, b.attribute("post_shift")))


OP = register(
    Op(
        "RequantizeNarrow",
        INPUTS,
        (*clamp_attributes(), Attribute("post_shift")),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
