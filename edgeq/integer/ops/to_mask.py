"""ToMask: 1 where x is not 0, else 0, as u8 or s8: makes of an int64 attention mask what the masked ops take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body, Ref
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import ANY, BYTE, Attribute, Call, Input, Op, TensorType, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype `to`."""
    to: np.dtype[Any] = call.attrs["to"]
    if to not in BYTE:
        raise call.fail(f"to is {to.name}, it must be {' or '.join(d.name for d in BYTE)}")
    return [TensorType(to, call.type(0).shape)]


def reference(x: Array, *, to: np.dtype[Any]) -> Array:
    """x != 0."""
    return np.asarray((x != 0).astype(to))


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """0 or 1."""
    return [Interval.of(0, 1)]


def body(b: Body, x: str) -> str:
    """One comparison."""
    return b("Cast", b("Not", b("Equal", b.wide(x), b.constant(0))), to=Ref("to"))


OP = register(
    Op("ToMask", (Input("x", ANY),), (Attribute("to", "dtype", default=2),), infer, reference, interval, body)
)
