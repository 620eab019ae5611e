"""Gemm: matrix product of s8 by s8 weights, s32 out. acc[..., n] = Σ_k (x − x_zero_point)·w[k, n] + bias[n]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.ops.convolution import sum_interval, weight_sums
from edgeq.integer.products import matmul
from edgeq.integer.registry import S8, S32, Attribute, Call, Input, Op, TensorType, check_zero_point, register

Array = np.ndarray[Any, np.dtype[Any]]

WEIGHTS = (Input("w", (S8,), rank=2, constant=True), Input("bias", (S32,), rank=1, constant=True))


def infer(call: Call) -> list[TensorType]:
    """[..., K], [K, N] -> s32 [..., N]."""
    x, (depth, outputs) = call.type(0), call.type(1).shape
    if "x_zero_point" in call.attrs:
        check_zero_point(call, "x_zero_point", x.dtype)
    if len(x.shape) < 2 or x.shape[-1] != depth:
        raise call.fail(
            f"x is {x}, weights are [{depth}, {outputs}]: the last axis of x (rank 2 or more) must be {depth}"
        )
    if call.type(2).shape != (outputs,):
        raise call.fail(f"bias is {call.type(2)}, it must be [{outputs}]")
    return [TensorType(S32, (*x.shape[:-1], outputs))]


def reference(x: Array, w: Array, bias: Array, *, x_zero_point: int = 0) -> Array:
    """The accumulator, int32."""
    return (matmul(x, w, x_zero_point, 0) + bias).astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Per output: Σ of w times the reach of x − zero point, plus bias, in 32 bits."""
    positive, negative = weight_sums(call.constant(1), (1,))
    x = inputs[0].shifted(-call.attrs.get("x_zero_point", 0))
    return [sum_interval(call, x, positive, negative, call.constant(2).astype(np.int64))]


def body(b: Body, x: str, w: str, bias: str) -> str:
    """MatMulInteger S8S8."""
    return b("Add", b("MatMulInteger", x, w, b.byte(b.attribute("x_zero_point"))), bias)


OP = register(
    Op("Gemm", (Input("x", (S8,)), *WEIGHTS), (Attribute("x_zero_point", default=0),), infer, reference, interval, body)
)
