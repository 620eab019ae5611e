"""Concat: values of one dtype and one scale behind each other along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.intervals import Interval
from edgeq.integer.ops.standard.common import Array, normal_axis, standard
from edgeq.integer.registry import Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """The axis added up, all else equal."""
    first = call.type(0)
    axis = normal_axis(call, call.attrs["axis"], len(first.shape))
    total = 0
    for i in range(len(call.types)):
        t = call.type(i)
        same = len(t.shape) == len(first.shape) and all(
            n == m for j, (n, m) in enumerate(zip(t.shape, first.shape, strict=True)) if j != axis
        )
        if t.dtype != first.dtype or not same:
            raise call.fail(f"{first} and {t} can't be joined along axis {axis}")
        total += t.shape[axis]
    return [TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))]


def reference(*inputs: Array, axis: int) -> Array:
    """numpy.concatenate."""
    return np.concatenate(inputs, axis=axis)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Union of all inputs."""
    whole = inputs[0].collapse()
    for other in inputs[1:]:
        whole = whole.union(other)
    return [whole]


OP = standard("Concat", (Input("x"),), (Attribute("axis"),), infer, reference, interval, variadic=True)
