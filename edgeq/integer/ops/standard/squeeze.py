"""Squeeze: take axes of length 1 away; without axes, all of them."""

from __future__ import annotations

from edgeq.integer.ops.standard.common import Array, indices, normal_axes, standard
from edgeq.integer.registry import Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """The remaining axes."""
    x = call.type(0)
    given = call.constant(1).tolist() if call.has(1) else [i for i, n in enumerate(x.shape) if n == 1]
    axes = normal_axes(call, given, len(x.shape))
    if any(x.shape[a] != 1 for a in axes):
        raise call.fail(f"axes {given} of {x} are not all of length 1")
    return [TensorType(x.dtype, tuple(n for i, n in enumerate(x.shape) if i not in axes))]


def reference(x: Array, axes: Array | None = None) -> Array:
    """numpy.squeeze."""
    return x.squeeze(None if axes is None else tuple(axes.tolist()))


OP = standard("Squeeze", (Input("x"), indices("axes", optional=True)), (), infer, reference)
