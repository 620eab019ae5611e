"""ReduceMax over constant axes."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.reduce_sum import reduced_axes, reduced_shape
from edgeq.integer.ops.standard.common import Array, indices, standard
from edgeq.integer.registry import S8, S32, U8, Attribute, Call, Input, TensorType, check_range


def infer(call: Call) -> list[TensorType]:
    """The axes gone or 1."""
    x = call.type(0)
    axes = reduced_axes(call, call.constant(1).tolist())
    return [TensorType(x.dtype, reduced_shape(x.shape, axes, bool(check_range(call, "keepdims", 0, 1))))]


def reference(x: Array, axes: Array, *, keepdims: int) -> Array:
    """numpy.max."""
    return np.asarray(x.max(axis=tuple(axes.tolist()), keepdims=bool(keepdims)))


OP = standard(
    "ReduceMax", (Input("x", (S8, U8, S32)), indices("axes")), (Attribute("keepdims", default=1),), infer, reference
)
