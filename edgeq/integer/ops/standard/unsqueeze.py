"""Unsqueeze: put axes of length 1 in; `axes` count in the output."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, indices, normal_axes, standard
from edgeq.integer.registry import Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """Shape of x with ones at axes."""
    x = call.type(0)
    rank = len(x.shape) + len(call.constant(1))
    axes = normal_axes(call, call.constant(1).tolist(), rank)
    rest = iter(x.shape)
    return [TensorType(x.dtype, tuple(1 if i in axes else next(rest) for i in range(rank)))]


def reference(x: Array, axes: Array) -> Array:
    """numpy.expand_dims."""
    return np.expand_dims(x, tuple(axes.tolist()))


OP = standard("Unsqueeze", (Input("x"), indices("axes")), (), infer, reference)
