"""What LayerNorm and RmsNorm share: attributes, checks, the proof of widths, the body's row and channel arithmetic.

Every step is written down in edgeq/integer/normalization.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.integer.body import INT64, Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.normalization import (
    FACTOR_MAX,
    MAX_EPSILON,
    MAX_LENGTH,
    ROW_BITS_MAX,
    factor_bound,
    row_bound,
)
from edgeq.integer.registry import S32, Attribute, Call, Input, TensorType, check_clamp, check_range

Array = np.ndarray[Any, np.dtype[Any]]

GAMMA = Input("gamma", (S32,), rank=1, constant=True)
BETA = Input("beta", (S32,), rank=1, constant=True)
ROW = tuple(Attribute(n) for n in ("epsilon", "row_bits", "fraction_bits", "shift"))


def infer_rows(call: Call, channels: int) -> list[TensorType]:
    """Shape of x, dtype `to`; the first `channels` inputs behind x must be as long as a row."""
    x = call.type(0)
    if not x.shape or not 1 <= x.shape[-1] <= MAX_LENGTH:
        raise call.fail(f"x is {x}: its last axis must have 1 to {MAX_LENGTH} elements")
    for index, name in list(enumerate(("gamma", "beta"), start=1))[:channels]:
        if call.type(index).shape != (x.shape[-1],):
            raise call.fail(f"{name} is {call.type(index)}, it must be [{x.shape[-1]}]")
    check_range(call, "epsilon", 0, MAX_EPSILON)
    row_bits = check_range(call, "row_bits", 1, ROW_BITS_MAX)
    check_range(call, "fraction_bits", 0, row_bits)
    check_range(call, "shift", 0, 30)
    return [TensorType(check_clamp(call), x.shape)]


def rows_interval(call: Call, beta: Array) -> Interval:
    """The proof: p, t, gamma and the sum behind them; the output per channel.

    Args:
        beta: int64 [n] or 0.
    """
    a, length, gamma = call.attrs, call.type(0).shape[-1], call.constant(1).astype(np.int64)
    drop = a["row_bits"] - a["fraction_bits"]
    # r <= 2^row_bits·n/√V·(1 + 2^−15) + 1 with V >= n − 1: what a row of unequal integers has at least
    inverse = (((length << a["row_bits"]) << 16) // math.isqrt(max(length - 1, 1) << 32)) * 32769 // 32768 + 2
    require(Interval.of(0, inverse), call.where, "the inverse deviation")
    normal = row_bound(length, a["row_bits"]) + ((1 << drop) >> 1)
    require(Interval.of(-normal, normal), call.where, "the normalised row plus its rounding")
    most = factor_bound(length, a["row_bits"], a["fraction_bits"])
    require(Interval.of(-most, most), call.where, "the normalised element", -FACTOR_MAX, FACTOR_MAX)
    require(Interval.of_constant(gamma), call.where, "gamma", -FACTOR_MAX, FACTOR_MAX)
    half = (1 << a["shift"]) >> 1
    total = Interval.of(beta - most * np.abs(gamma) + half, beta + most * np.abs(gamma) + half)
    require(total, call.where, "the product with gamma plus beta and rounding")
    return total.map(lambda v: np.clip((v >> a["shift"]) + a["zero_point"], a["low"], a["high"]))


def row_length(b: Body, x: str) -> str:
    """n as int64 [1]."""
    return b("Shape", x, start=-1)


def body_inverse(b: Body, variance: str, length: str) -> str:
    """r of every row from V, int64; the root bit by bit."""
    reached = b("GreaterOrEqual", b("Unsqueeze", variance, b.vector(-1)), b.vector(*(4**k for k in range(1, 31))))
    c = b("ReduceSum", b("Cast", reached, to=INT64), b.vector(-1), keepdims=0)
    two, middle = b.constant(2), b.constant(15)
    up = b.power(b("Mul", two, b("Max", b("Sub", middle, c), b.constant(0))))
    down = b.power(b("Mul", two, b("Max", b("Sub", c, middle), b.constant(0))))
    q = b("Div", b.constant(2**31), _root(b, b.floor_shift(b("Mul", variance, up), down)))
    count = b("Sub", b("Add", c, b.constant(16)), b.attribute("row_bits"))
    left = b.power(b("Max", b("Neg", count), b.constant(0)))
    return b.round_shift(b("Mul", b("Mul", q, length), left), b("Max", count, b.constant(0)))


def _root(b: Body, value: str) -> str:
    """floor(√value) for value < 2^32."""
    root = b("Mul", value, b.constant(0))
    for bit in range(15, -1, -1):
        tried = b("Add", root, b.constant(2**bit))
        root = b("Where", b("LessOrEqual", b("Mul", tried, tried), value), tried, root)
    return root


def body_channels(b: Body, p: str, gamma: str, beta: str | None) -> str:
    """From p to the output."""
    t = b.round_shift(p, b("Sub", b.attribute("row_bits"), b.attribute("fraction_bits")))
    total = b("Mul", t, b.wide(gamma))
    if beta is not None:
        total = b("Add", total, b.wide(beta))
    return b.clamp_wide(b.round_shift(total, b.attribute("shift")))
