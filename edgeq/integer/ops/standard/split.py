"""Split along an axis into parts of constant sizes, or into num_outputs parts of which the last may be smaller."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops.standard.common import Array, indices, normal_axis, standard
from edgeq.integer.registry import Attribute, Call, Input, TensorType


def part_sizes(length: int, split: Array | None, count: int) -> list[int]:
    """Length of every part."""
    if split is not None:
        return [int(n) for n in split]
    each = -(-length // count)
    return [max(0, min(each, length - i * each)) for i in range(count)]


def infer(call: Call) -> list[TensorType]:
    """One type per part."""
    x = call.type(0)
    axis = normal_axis(call, call.attrs["axis"], len(x.shape))
    split = call.constant(1) if call.has(1) else None
    count = call.attrs.get("num_outputs")
    if (split is None) == (count is None) or (count is not None and count < 1):
        raise call.fail("it needs either the input split or the attribute num_outputs")
    sizes = part_sizes(x.shape[axis], split, count or 0)
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise call.fail(f"axis {axis} of {x} can't be split into {sizes}")
    if call.outputs != len(sizes):
        raise call.fail(f"{call.outputs} outputs for {len(sizes)} parts")
    return [TensorType(x.dtype, (*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in sizes]


def reference(x: Array, split: Array | None = None, *, axis: int, num_outputs: int = 0) -> tuple[Array, ...]:
    """numpy.split."""
    sizes = part_sizes(x.shape[axis], split, num_outputs)
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


OP = standard(
    "Split",
    (Input("x"), indices("split", optional=True)),
    (Attribute("axis", default=0), Attribute("num_outputs", optional=True)),
    infer,
    reference,
)
