"""ArgMax: index of the first (or last) largest value along an axis, s64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.intervals import Interval
from edgeq.integer.ops.reduce_sum import reduced_shape
from edgeq.integer.ops.standard.common import Array, normal_axis, standard
from edgeq.integer.registry import S8, S32, S64, U8, Attribute, Call, Input, TensorType, check_range


def infer(call: Call) -> list[TensorType]:
    """s64, the axis gone or 1."""
    x = call.type(0)
    axis = normal_axis(call, call.attrs["axis"], len(x.shape))
    check_range(call, "select_last_index", 0, 1)
    return [TensorType(S64, reduced_shape(x.shape, (axis,), bool(check_range(call, "keepdims", 0, 1))))]


def reference(x: Array, *, axis: int, keepdims: int, select_last_index: int) -> Array:
    """numpy.argmax, from the far end for the last index."""
    if select_last_index:
        found = x.shape[axis] - 1 - np.flip(x, axis).argmax(axis=axis, keepdims=bool(keepdims))
    else:
        found = x.argmax(axis=axis, keepdims=bool(keepdims))
    return np.asarray(found, dtype=np.int64)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Indices of the axis."""
    return [Interval.of(0, call.type(0).shape[call.attrs["axis"]] - 1)]


OP = standard(
    "ArgMax",
    (Input("x", (S8, U8, S32)),),
    (Attribute("axis", default=0), Attribute("keepdims", default=1), Attribute("select_last_index", default=0)),
    infer,
    reference,
    interval,
)
