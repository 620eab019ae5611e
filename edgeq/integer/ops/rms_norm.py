"""RmsNorm over the last axis: γ·x/√(mean of squares + ε), each row normalised exactly, one rounding at the end.

gamma and the attributes epsilon, row_bits, fraction_bits, shift come from `normalization.norm_constants` (beta None);
the arithmetic is written down there. With γ = 1/√n and ε = 0 it divides a row by its Euclidean norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.normalization import apply_channels, scaled_rows
from edgeq.integer.ops.normalize import (
    GAMMA,
    ROW,
    body_channels,
    body_inverse,
    infer_rows,
    row_length,
    rows_interval,
)
from edgeq.integer.registry import (
    SMALL,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    check_zero_point,
    clamp_attributes,
    derive_clamp,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    check_zero_point(call, "x_zero_point", call.type(0).dtype)
    return infer_rows(call, 1)


def reference(
    x: Array,
    gamma: Array,
    *,
    x_zero_point: int,
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
    p = scaled_rows(x, x_zero_point, epsilon, row_bits)
    return clamp(apply_channels(p, gamma, 0, row_bits - fraction_bits, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Bounded by the row's length, whatever x is; per channel."""
    return [rows_interval(call, np.zeros(1, np.int64))]


def body(b: Body, x: str, gamma: str) -> str:
    """In int64 throughout."""
    wide, n = b.offset(x, "x_zero_point"), row_length(b, x)
    squares = b("ReduceSum", b("Mul", wide, wide), b.vector(-1), keepdims=1)
    r = body_inverse(b, b.greatest(b("Add", b("Mul", n, squares), b.attribute("epsilon")), n), n)
    return body_channels(b, b("Mul", wide, r), gamma, None)


OP = register(
    Op(
        "RmsNorm",
        (Input("x", SMALL), GAMMA),
        (Attribute("x_zero_point", default=0), *ROW, *clamp_attributes()),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
