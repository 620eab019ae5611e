"""Gather along an axis at constant indices."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, normal_axis, standard
from edgeq.integer.registry import S32, S64, Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """The axis replaced by the indices' shape."""
    x, where = call.type(0), call.constant(1)
    axis = normal_axis(call, call.attrs["axis"], len(x.shape))
    if where.size and not -x.shape[axis] <= int(where.min()) <= int(where.max()) < x.shape[axis]:
        raise call.fail(f"indices [{where.min()}, {where.max()}] leave axis {axis} of {x}")
    return [TensorType(x.dtype, (*x.shape[:axis], *where.shape, *x.shape[axis + 1 :]))]


def reference(x: Array, indices: Array, *, axis: int) -> Array:
    """numpy.take."""
    return np.asarray(np.take(x, indices, axis=axis))


OP = standard(
    "Gather",
    (Input("x"), Input("indices", (S32, S64), constant=True)),
    (Attribute("axis", default=0),),
    infer,
    reference,
)
