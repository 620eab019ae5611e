"""Mul: (a − a_zero_point)·(b − b_zero_point), s32 out, broadcasting; a Requantize follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import INT32, Body
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import (
    S32,
    SMALL,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    broadcast,
    check_zero_point,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Broadcast shape, s32."""
    check_zero_point(call, "a_zero_point", call.type(0).dtype)
    check_zero_point(call, "b_zero_point", call.type(1).dtype)
    return [TensorType(S32, broadcast(call, 0, 1))]


def reference(a: Array, b: Array, *, a_zero_point: int, b_zero_point: int) -> Array:
    """Exact: |product| <= 2^30."""
    left, right = a.astype(np.int32) - a_zero_point, b.astype(np.int32) - b_zero_point
    return (left * right).astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """The product, in 32 bits."""
    a, b = inputs[0].shifted(-call.attrs["a_zero_point"]), inputs[1].shifted(-call.attrs["b_zero_point"])
    return [require(a.collapse().times(b.collapse()), call.where, "the product")]


def body(b: Body, left: str, right: str) -> str:
    """In int64."""
    product = b("Mul", b.offset(left, "a_zero_point"), b.offset(right, "b_zero_point"))
    return b("Cast", product, to=INT32)


OP = register(
    Op(
        "Mul",
        (Input("a", SMALL), Input("b", SMALL)),
        (Attribute("a_zero_point", default=0), Attribute("b_zero_point", default=0)),
        infer,
        reference,
        interval,
        body,
    )
)
