"""ConvS16: 2-D convolution of s16 (zero point 0) by s8, s32 out. acc = Σ w·x + bias; padding adds nothing."""

from __future__ import annotations

from edgeq.integer.body import Body
from edgeq.integer.ops.conv import convolve, infer, interval, reference
from edgeq.integer.ops.convolution import BIAS, GEOMETRY, WEIGHTS
from edgeq.integer.registry import S16, Input, Op, register


def body(b: Body, x: str, w: str, bias: str) -> str:
    """Two S8S8 convolutions: x = 256·high + low; low is (low − 128) with zero point −128, which also pads it."""
    high, low, low_zero = b.halves(b.wide(x))
    sums = b.join_halves(convolve(b, high, w, b.byte(b.constant(0))), convolve(b, low, w, low_zero))
    return b("Add", sums, bias)


OP = register(Op("ConvS16", (Input("x", (S16,), rank=4), WEIGHTS, BIAS), GEOMETRY, infer, reference, interval, body))
