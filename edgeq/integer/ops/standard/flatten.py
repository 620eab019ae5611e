"""Flatten to two axes: everything before `axis`, everything from it on."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.registry import Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """[before, after]."""
    x, axis = call.type(0), call.attrs["axis"]
    if not -len(x.shape) <= axis <= len(x.shape):
        raise call.fail(f"axis {axis} doesn't fit {x}")
    return [TensorType(x.dtype, _shape(x.shape, axis))]


def _shape(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    at = axis + len(shape) if axis < 0 else axis
    return int(np.prod(shape[:at], dtype=np.int64)), int(np.prod(shape[at:], dtype=np.int64))


def reference(x: Array, *, axis: int) -> Array:
    """numpy.reshape."""
    return x.reshape(_shape(x.shape, axis))


OP = standard("Flatten", (Input("x"),), (Attribute("axis", default=1),), infer, reference)
