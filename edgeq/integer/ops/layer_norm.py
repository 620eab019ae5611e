"""LayerNorm over the last axis: γ·(x − mean)/√(variance + ε) + β, each row normalised exactly, one rounding at the end.

gamma, beta and the attributes epsilon, row_bits, fraction_bits, shift come from `normalization.norm_constants`; the
arithmetic is written down there. x's zero point cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.normalization import apply_channels, centred_rows
from edgeq.integer.ops.normalize import (
    BETA,
    GAMMA,
    ROW,
    body_channels,
    body_inverse,
    infer_rows,
    row_length,
    rows_interval,
)
from edgeq.integer.registry import SMALL, Call, Input, Op, TensorType, clamp_attributes, derive_clamp, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    return infer_rows(call, 2)


def reference(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    epsilon: int,
    row_bits: int,
    fraction_bits: int,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    p = centred_rows(x, epsilon, row_bits)
    return clamp(apply_channels(p, gamma, beta, row_bits - fraction_bits, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Bounded by the row's length, whatever x is; per channel."""
    return [rows_interval(call, call.constant(2).astype(np.int64))]


def body(b: Body, x: str, gamma: str, beta: str) -> str:
    """In int64 throughout."""
    wide, n, axis = b.wide(x), row_length(b, x), b.vector(-1)
    total = b("ReduceSum", wide, axis, keepdims=1)
    squares = b("ReduceSum", b("Mul", wide, wide), axis, keepdims=1)
    spread = b("Sub", b("Mul", n, squares), b("Mul", total, total))
    least = b("Max", b("Sub", n, b.constant(1)), b.constant(1))
    r = body_inverse(b, b.greatest(b("Add", spread, b.attribute("epsilon")), least), n)
    mean = b.floor_shift(b("Add", b("Mul", total, r), b("Div", n, b.constant(2))), n)
    return body_channels(b, b("Sub", b("Mul", wide, r), mean), gamma, beta)


OP = register(
    Op(
        "LayerNorm",
        (Input("x", SMALL), GAMMA, BETA),
        (*ROW, *clamp_attributes()),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
