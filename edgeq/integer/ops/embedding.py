"""Embedding: rows of a constant table, chosen by a computed index: table[min(max(index, 0), rows − 1)].

The indices are what a caller sends at run time, so they are limited here, in the op itself: no index reads outside the
table. (A Clip in front of a Gather would do the same, were it not that ONNX Runtime's Clip of int64 is wrong for some
numbers past 32 bits: docs/integer-ops.md.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.registry import S32, S64, SMALL, Call, Input, Op, TensorType, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """[rows, …], indices [I…] -> [I…, …], the table's dtype."""
    table, indices = call.type(0), call.type(1)
    if not table.shape or not table.shape[0]:
        raise call.fail(f"table is {table}: it has no rows")
    return [TensorType(table.dtype, (*indices.shape, *table.shape[1:]))]


def reference(table: Array, indices: Array) -> Array:
    """numpy.take with limited indices."""
    return np.asarray(np.take(table, np.clip(indices.astype(np.int64), 0, len(table) - 1), axis=0))


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """What each column of the reachable rows holds."""
    table = call.constant(0)
    first, last = (int(np.clip(v, 0, len(table) - 1)) for v in (inputs[1].least, inputs[1].most))
    rows = table[first : last + 1]
    return [Interval.of(rows.min(axis=0), rows.max(axis=0))]


def body(b: Body, table: str, indices: str) -> str:
    """Comparisons limit the index, a Gather fetches."""
    return b("Gather", table, limited(b, table, indices), axis=0)


def limited(b: Body, table: str, indices: str) -> str:
    """int64 indices, limited to the table's rows."""
    last = b("Sub", b("Squeeze", b("Shape", table, start=0, end=1)), b.constant(1))
    return b.least(b.greatest(b.wide(indices), b.constant(0)), last)


OP = register(
    Op(
        "Embedding",
        (Input("table", SMALL, constant=True), Input("indices", (S32, S64))),
        (),
        infer,
        reference,
        interval,
        body,
    )
)
