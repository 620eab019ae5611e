"""Lut: a function of an 8-bit tensor as a table of 256 entries, one for the tensor or one per index along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import (
    BYTE,
    SMALL,
    U8,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]


def derive(types: Sequence[TensorType | None], attrs: dict[str, Any]) -> None:
    """`lowest`: the value of x that reads entry 0, from x's dtype."""
    if types and types[0] is not None:
        attrs.setdefault("lowest", 0 if types[0].dtype == U8 else -128)


def infer(call: Call) -> list[TensorType]:
    """Shape of x, dtype of the table."""
    x, table, axis = call.type(0), call.type(1), call.attrs["axis"]
    if call.attrs["lowest"] != (0 if x.dtype == U8 else -128):
        raise call.fail(f"lowest {call.attrs['lowest']} is not the lowest value of {x.dtype.name}")
    if table.shape == (256,):
        return [TensorType(table.dtype, x.shape)]
    if not -len(x.shape) <= axis < len(x.shape):
        raise call.fail(f"axis {axis} is not an axis of {x}")
    if table.shape != (x.shape[axis], 256):
        raise call.fail(f"table is {table}, it must be [256] or [{x.shape[axis]}, 256]")
    return [TensorType(table.dtype, x.shape)]


def reference(x: Array, table: Array, *, axis: int, lowest: int) -> Array:
    """table[x − lowest]."""
    index = x.astype(np.intp) - lowest
    if table.ndim == 1:
        return table[index]
    rows = np.arange(len(table)).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return table[rows, index]


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """The entries that x can reach."""
    table, lowest = call.constant(1), call.attrs["lowest"]
    reached = table[..., inputs[0].least - lowest : inputs[0].most - lowest + 1]
    return [Interval.of(reached.min(), reached.max())]


def body(b: Body, x: str, table: str) -> str:
    """Gather from the flat table at 256·row + x − lowest."""
    rank = b("Shape", b("Shape", x))
    rows = b("Div", b("Size", table), b.constant(256))
    axes = b("Range", b.constant(0), b("Squeeze", rank), b.constant(1))
    axis = b("Mod", b.attribute("axis"), rank)
    shape = b("Where", b("Equal", axes, axis), rows, b.constant(1))
    first = b("Mul", b("Range", b.constant(0), rows, b.constant(1)), b.constant(256))
    flat = b("Reshape", table, b.vector(-1))
    return b("Gather", flat, b("Add", b.offset(x, "lowest"), b("Reshape", first, shape)), axis=0)


OP = register(
    Op(
        "Lut",
        (Input("x", BYTE), Input("table", SMALL, constant=True)),
        (Attribute("axis", default=1), Attribute("lowest")),
        infer,
        reference,
        interval,
        body,
        derive=derive,
    )
)
