"""DepthToSpace: [N, C·b², H, W] -> [N, C, H·b, W·b].

mode DCR: the block offset is outermost in the channels; CRD: the channel is.
"""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.registry import BYTE, Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """Channels into space."""
    x, b = call.type(0), call.attrs["blocksize"]
    if call.attrs["mode"] not in ("DCR", "CRD"):
        raise call.fail(f"mode {call.attrs['mode']!r} must be DCR or CRD")
    n, c, h, w = x.shape
    if b < 1 or c % (b * b):
        raise call.fail(f"{c} channels are no multiple of blocksize {b} squared")
    return [TensorType(x.dtype, (n, c // (b * b), h * b, w * b))]


def reference(x: Array, *, blocksize: int, mode: str) -> Array:
    """Reshape, transpose, reshape."""
    n, c, h, w = x.shape
    b, rest = blocksize, c // blocksize**2
    if mode == "DCR":
        parts = x.reshape(n, b, b, rest, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, rest, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(parts).reshape(n, rest, h * b, w * b)


OP = standard(
    "DepthToSpace",
    (Input("x", BYTE, rank=4),),
    (Attribute("blocksize"), Attribute("mode", "string", "DCR")),
    infer,
    reference,
)
