"""SpaceToDepth: [N, C, H·b, W·b] -> [N, b²·C, H, W], block offset outermost in the channels."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.registry import BYTE, Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """Space into channels."""
    x, b = call.type(0), call.attrs["blocksize"]
    n, c, h, w = x.shape
    if b < 1 or h % b or w % b:
        raise call.fail(f"{x} can't be cut into blocks of {b} by {b}")
    return [TensorType(x.dtype, (n, c * b * b, h // b, w // b))]


def reference(x: Array, *, blocksize: int) -> Array:
    """Reshape, transpose, reshape."""
    n, c, h, w = x.shape
    b = blocksize
    parts = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return np.ascontiguousarray(parts).reshape(n, c * b * b, h // b, w // b)


OP = standard("SpaceToDepth", (Input("x", BYTE, rank=4),), (Attribute("blocksize"),), infer, reference)
