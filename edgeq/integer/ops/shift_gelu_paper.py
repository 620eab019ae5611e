"""ShiftGeluPaper: I-ViT's GELU as published, per token (last axis); see edgeq/integer/shift_gelu_paper.py.

For comparison: it depends on the token's largest value. The attributes octave, multiplier and shift come from
`shift_gelu_paper.shift_gelu_paper_constants`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import (
    BYTE,
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
from edgeq.integer.shift_gelu_paper import (
    CEILING,
    DEPTH,
    OCTAVE_MAX,
    OUT_BITS,
    SHIFT_MAX,
    ShiftGeluPaperConstants,
    shift_gelu_paper,
)

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    x = call.type(0)
    if not x.shape:
        raise call.fail(f"x is {x}: it has no axis of a token's elements")
    check_zero_point(call, "x_zero_point", x.dtype)
    check_range(call, "octave", 1, OCTAVE_MAX)
    check_range(call, "multiplier", 1, 2**15 - 1)
    check_range(call, "shift", 0, 30)
    return [TensorType(check_clamp(call), x.shape)]


def reference(
    x: Array,
    *,
    x_zero_point: int,
    octave: int,
    multiplier: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    constants = ShiftGeluPaperConstants(octave, multiplier, shift)
    return clamp(shift_gelu_paper(x.astype(np.int64) - x_zero_point, constants) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """σ is in [0, 127/128]; 255·127·32767 + 2^29 < 2^31: everything is bounded by construction."""
    a = call.attrs
    half = (1 << a["shift"]) >> 1
    x = inputs[0].shifted(-a["x_zero_point"]).with_zero().scaled(((1 << OUT_BITS) - 1) * a["multiplier"]).shifted(half)
    return [x.collapse().map(lambda v: np.clip((v >> a["shift"]) + a["zero_point"], a["low"], a["high"]))]


def _exponential(b: Body, z: str) -> str:
    octave = b.attribute("octave")
    raised = b("Sub", b("Add", z, b.floor_shift(z, b.constant(2))), b.floor_shift(z, b.constant(16)))
    p = b("Neg", b("Max", raised, b("Mul", octave, b.constant(-DEPTH))))
    rest = b("Mod", p, octave)
    shift = b("Sub", b.constant(DEPTH), b("Div", b("Sub", p, rest), octave))
    line = b("Sub", b("Mul", octave, b.constant(2)), rest)
    moved = b("Mul", line, b.power(b("Min", shift, b.constant(SHIFT_MAX))))
    return b.floor_shift(moved, b.constant(2))


def body(b: Body, x: str) -> str:
    """In int64 throughout."""
    moved = b.offset(x, "x_zero_point")
    largest = b("ReduceMax", moved, b.vector(-1), keepdims=1)
    e = _exponential(b, b("Sub", moved, largest))
    total = b.least(b("Add", e, _exponential(b, b("Neg", largest))), b.constant(CEILING))
    factor = b("Div", b.constant(CEILING), total)
    g = b.floor_shift(b("Mul", e, factor), b.constant(2 ** (31 - OUT_BITS)))
    product = b("Mul", b("Mul", moved, g), b.attribute("multiplier"))
    return b.clamp(b.round_shift(product, b.attribute("shift")))


OP = register(
    Op(
        "ShiftGeluPaper",
        (Input("x", BYTE),),
        (
            Attribute("x_zero_point", default=0),
            *(Attribute(n) for n in ("octave", "multiplier", "shift")),
            *clamp_attributes(),
        ),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
