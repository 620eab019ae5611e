"""Identity: the same value under another name."""

from __future__ import annotations

from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.registry import Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """Type of x."""
    return [call.type(0)]


def reference(x: Array) -> Array:
    """x itself."""
    return x


OP = standard("Identity", (Input("x"),), (), infer, reference)
