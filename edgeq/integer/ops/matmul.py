"""MatMul: product of two computed tensors, s32 out. acc = Σ_k (a − a_zero_point)·(b − b_zero_point).

a s8, u8 (probabilities) or s16 (16-bit probabilities or activations, zero point 0); b s8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.products import matmul
from edgeq.integer.registry import S8, S32, SMALL, Attribute, Call, Input, Op, TensorType, check_zero_point, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """[..., M, K], [..., K, N] -> s32 [..., M, N], leading axes broadcast."""
    a, b = call.type(0), call.type(1)
    check_zero_point(call, "a_zero_point", a.dtype)
    check_zero_point(call, "b_zero_point", b.dtype)
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise call.fail(f"a is {a}, b is {b}: they can't be multiplied as matrices")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        raise call.fail(f"the leading axes of {a} and {b} don't broadcast") from error
    return [TensorType(S32, (*(int(n) for n in batch), a.shape[-2], b.shape[-1]))]


def reference(a: Array, b: Array, *, a_zero_point: int, b_zero_point: int) -> Array:
    """The accumulator, int32."""
    return matmul(a, b, a_zero_point, b_zero_point).astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """K times the largest product, in 32 bits."""
    a = inputs[0].shifted(-call.attrs["a_zero_point"]).collapse()
    b = inputs[1].shifted(-call.attrs["b_zero_point"]).collapse()
    depth = call.type(0).shape[-1]
    product = a.times(b)
    require(product.with_zero().scaled(depth), call.where, "the accumulator")
    return [product.scaled(depth)]


def body(b: Body, left: str, right: str) -> str:
    """Two S8S8 products over a − a_zero_point = 256·high + low (a function body can't know a's type), low less 128."""
    high, low, low_zero = b.halves(b.offset(left, "a_zero_point"))
    zero, right_zero = b.byte(b.constant(0)), b.byte(b.attribute("b_zero_point"))
    product = b("MatMulInteger", high, right, zero, right_zero)
    return b.join_halves(product, b("MatMulInteger", low, right, low_zero, right_zero))


OP = register(
    Op(
        "MatMul",
        (Input("a", SMALL), Input("b", (S8,))),
        (Attribute("a_zero_point", default=0), Attribute("b_zero_point", default=0)),
        infer,
        reference,
        interval,
        body,
    )
)
