"""ReduceSum: Σ (x − x_zero_point) over axes, s32 out. With a Requantize it is ReduceMean and GlobalAveragePool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import INT32, Body, Ref
from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import (
    S32,
    SMALL,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    check_range,
    check_zero_point,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]


def reduced_axes(call: Call, axes: Sequence[int]) -> tuple[int, ...]:
    """Axes counted from the front; they must exist and differ."""
    rank = len(call.type(0).shape)
    found = tuple(a % rank for a in axes) if rank else ()
    if not found or any(not -rank <= a < rank for a in axes) or len(set(found)) != len(found):
        raise call.fail(f"axes {list(axes)} are not different axes of {call.type(0)}")
    return found


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """Shape after a reduction."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def infer(call: Call) -> list[TensorType]:
    """s32, the axes gone or 1."""
    check_zero_point(call, "x_zero_point", call.type(0).dtype)
    keep = bool(check_range(call, "keepdims", 0, 1))
    return [TensorType(S32, reduced_shape(call.type(0).shape, reduced_axes(call, call.attrs["axes"]), keep))]


def reference(x: Array, *, axes: Sequence[int], keepdims: int, x_zero_point: int) -> Array:
    """The sums, int32."""
    centred = x.astype(np.int64) - x_zero_point
    return np.asarray(centred.sum(axis=tuple(axes), keepdims=bool(keepdims))).astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Number of summands times the largest value, in 32 bits."""
    shape = call.type(0).shape
    count = int(np.prod([shape[a] for a in call.attrs["axes"]]))
    centred = inputs[0].shifted(-call.attrs["x_zero_point"]).collapse()
    require(centred.with_zero().scaled(count), call.where, "the sum")
    return [centred.scaled(count)]


def body(b: Body, x: str) -> str:
    """ReduceSum in int64."""
    total = b("ReduceSum", b.offset(x, "x_zero_point"), b.attribute_vector("axes"), keepdims=Ref("keepdims"))
    return b("Cast", total, to=INT32)


OP = register(
    Op(
        "ReduceSum",
        (Input("x", SMALL),),
        (Attribute("axes", "ints"), Attribute("keepdims", default=1), Attribute("x_zero_point", default=0)),
        infer,
        reference,
        interval,
        body,
    )
)
