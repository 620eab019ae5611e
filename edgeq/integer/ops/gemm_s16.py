"""GemmS16: matrix product of s16 (zero point 0) by s8 weights, s32 out. acc[..., n] = Σ_k x·w[k, n] + bias[n]."""

from __future__ import annotations

from edgeq.integer.body import Body
from edgeq.integer.ops.gemm import WEIGHTS, infer, interval, reference
from edgeq.integer.registry import S16, Input, Op, register


def body(b: Body, x: str, w: str, bias: str) -> str:
    """Two S8S8 products over x = 256·high + low, low taken as (low − 128) with zero point −128."""
    high, low, low_zero = b.halves(b.wide(x))
    return b("Add", b.join_halves(b("MatMulInteger", high, w), b("MatMulInteger", low, w, low_zero)), bias)


OP = register(Op("GemmS16", (Input("x", (S16,)), *WEIGHTS), (), infer, reference, interval, body))
