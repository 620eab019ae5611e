"""Reshape to a constant shape; 0 copies a dimension (unless allowzero), one −1 is inferred."""

from __future__ import annotations

from edgeq.integer.ops.standard.common import Array, indices, standard
from edgeq.integer.registry import Attribute, Call, Input, TensorType


def target_shape(shape: tuple[int, ...], wanted: Array, allowzero: int) -> tuple[int, ...]:
    """The wanted shape with its zeros filled in (−1 is left)."""
    return tuple(int(shape[i] if n == 0 and not allowzero and i < len(shape) else n) for i, n in enumerate(wanted))


def infer(call: Call) -> list[TensorType]:
    """dtype of x, the shape asked for."""
    x, wanted = call.type(0), list(target_shape(call.type(0).shape, call.constant(1), call.attrs["allowzero"]))
    count = 1
    for n in x.shape:
        count *= n
    known = 1
    for n in wanted:
        known *= 1 if n == -1 else n
    if -1 in wanted and known and count % known == 0:
        wanted[wanted.index(-1)] = count // known
        known = count
    if known != count or min(wanted, default=0) < 0:
        raise call.fail(f"{x} can't be reshaped to {[int(n) for n in call.constant(1)]}")
    return [TensorType(x.dtype, tuple(wanted))]


def reference(x: Array, shape: Array, *, allowzero: int) -> Array:
    """numpy.reshape."""
    return x.reshape(target_shape(x.shape, shape, allowzero))


OP = standard("Reshape", (Input("x"), indices("shape")), (Attribute("allowzero", default=0),), infer, reference)
