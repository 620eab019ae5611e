"""What the data movement ops share: registration under the ONNX domain and intervals that survive a move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.integer.intervals import Interval
from edgeq.integer.registry import S64, Attribute, Call, Input, Op, TensorType, register

Array = np.ndarray[Any, np.dtype[Any]]


def indices(name: str, optional: bool = False) -> Input:
    """An input of int64 numbers known at compile time: shapes, axes, starts, pads."""
    return Input(name, (S64,), rank=1, optional=optional, constant=True)


def moved(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Values move and don't change: every output keeps the bounds of the first input."""
    return [inputs[0].collapse()] * call.outputs


def standard(
    name: str,
    inputs: tuple[Input, ...],
    attributes: tuple[Attribute, ...],
    infer: Callable[[Call], list[TensorType]],
    reference: Callable[..., Any],
    interval: Callable[[Call, Sequence[Interval]], list[Interval]] = moved,
    variadic: bool = False,
) -> Op:
    """Register a standard ONNX op."""
    return register(Op(name, inputs, attributes, infer, reference, interval, domain="", variadic=variadic))


def normal_axis(call: Call, axis: int, rank: int) -> int:
    """Axis counted from the front."""
    if not -rank <= axis < rank:
        raise call.fail(f"axis {axis} is not an axis of a tensor of rank {rank}")
    return axis % rank


def normal_axes(call: Call, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Different axes counted from the front."""
    found = tuple(normal_axis(call, int(a), rank) for a in axes)
    if len(set(found)) != len(found):
        raise call.fail(f"axes {list(axes)} repeat")
    return found
