"""Transpose: axes in another order; without perm, reversed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.registry import Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """shape[perm]."""
    x = call.type(0)
    perm = call.attrs.get("perm", tuple(reversed(range(len(x.shape)))))
    if sorted(perm) != list(range(len(x.shape))):
        raise call.fail(f"perm {list(perm)} is not an order of the axes of {x}")
    return [TensorType(x.dtype, tuple(x.shape[i] for i in perm))]


def reference(x: Array, *, perm: Sequence[int] | None = None) -> Array:
    """numpy.transpose, as a new array in memory order."""
    return np.ascontiguousarray(x.transpose(perm))


OP = standard("Transpose", (Input("x"),), (Attribute("perm", "ints", optional=True),), infer, reference)
