"""Slice: constant starts, ends, axes and steps (steps may be negative), limits clamped as ONNX does."""

from __future__ import annotations

from edgeq.integer.ops.standard.common import Array, indices, normal_axes, standard
from edgeq.integer.registry import Call, Input, TensorType


def slices(
    shape: tuple[int, ...], starts: Array, ends: Array, axes: Array | None, steps: Array | None
) -> tuple[slice, ...]:
    """One Python slice per axis of `shape`."""
    result = [slice(None)] * len(shape)
    for i in range(len(starts)):
        axis = int(axes[i]) if axes is not None else i
        step = int(steps[i]) if steps is not None else 1
        result[axis] = _slice(shape[axis], int(starts[i]), int(ends[i]), step)
    return tuple(result)


def _slice(size: int, start: int, end: int, step: int) -> slice:
    start, end = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    first, last = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(first, None if last < 0 else last, step)


def infer(call: Call) -> list[TensorType]:
    """Lengths of the slices; an empty result is an error."""
    x, count = call.type(0), len(call.constant(1))
    given = [call.constant(i) if call.has(i) else None for i in range(1, 5)]
    if any(v is not None and len(v) != count for v in given):
        raise call.fail("starts, ends, axes and steps must have one length")
    axes = given[2].tolist() if given[2] is not None else list(range(count))
    normal_axes(call, axes, len(x.shape))
    if given[3] is not None and 0 in given[3]:
        raise call.fail("a step is 0")
    parts = slices(x.shape, call.constant(1), call.constant(2), given[2], given[3])
    shape = tuple(len(range(*part.indices(n))) for part, n in zip(parts, x.shape, strict=True))
    if 0 in shape:
        raise call.fail(f"nothing of {x} is left: {list(shape)}")
    return [TensorType(x.dtype, shape)]


def reference(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    """NumPy slicing."""
    return x[slices(x.shape, starts, ends, axes, steps)]


OP = standard(
    "Slice",
    (Input("x"), indices("starts"), indices("ends"), indices("axes", optional=True), indices("steps", optional=True)),
    (),
    infer,
    reference,
)
