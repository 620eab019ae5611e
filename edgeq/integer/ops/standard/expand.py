"""Expand: broadcast to a constant shape (both ways, as ONNX has it)."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, indices, standard
from edgeq.integer.registry import Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """Broadcast of both shapes."""
    x, wanted = call.type(0), tuple(call.constant(1).tolist())
    try:
        shape = np.broadcast_shapes(x.shape, wanted)
    except ValueError as error:
        raise call.fail(f"{x} doesn't broadcast to {list(wanted)}") from error
    return [TensorType(x.dtype, tuple(int(n) for n in shape))]


def reference(x: Array, shape: Array) -> Array:
    """numpy.broadcast_to, copied."""
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist()))))


OP = standard("Expand", (Input("x"), indices("shape")), (), infer, reference)
