"""ScaledEmbedding: rows of a constant table of narrow numbers, each row with a multiplier of its own.

With i = min(max(index, 0), rows − 1):
clamp(zero_point + ((table[i]·multiplier[i] + (2^shift >> 1)) >> shift)).

So a table of a few bits keeps a scale for every row, as a layer's narrow weights have one for every output channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.arithmetic import clamp, round_shift
from edgeq.integer.body import Body
from edgeq.integer.intervals import Interval
from edgeq.integer.ops.embedding import limited
from edgeq.integer.registry import (
    S8,
    S16,
    S32,
    S64,
    Attribute,
    Call,
    Input,
    Op,
    TensorType,
    check_clamp,
    check_range,
    clamp_attributes,
    derive_clamp,
    register,
)

Array = np.ndarray[Any, np.dtype[Any]]

SHIFT_MAX = 30
"""|table·multiplier| < 2^22 and 2^29 of rounding stay inside 32 bits."""


def infer(call: Call) -> list[TensorType]:
    """[rows, …], [rows], indices [I…] -> [I…, …] of dtype `to`."""
    table, multiplier, indices = call.type(0), call.type(1), call.type(2)
    if not table.shape or not table.shape[0]:
        raise call.fail(f"table is {table}: it has no rows")
    if multiplier.shape != table.shape[:1]:
        raise call.fail(f"multiplier is {multiplier}, it must be [{table.shape[0]}]: one for each row")
    if call.constant(1).min() < 0:
        raise call.fail(f"a multiplier is {call.constant(1).min()}, it must not be negative")
    check_range(call, "shift", 0, SHIFT_MAX)
    return [TensorType(check_clamp(call), (*indices.shape, *table.shape[1:]))]


def reference(
    table: Array,
    multiplier: Array,
    indices: Array,
    *,
    shift: int,
    zero_point: int,
    low: int,
    high: int,
    to: np.dtype[Any],
) -> Array:
    """Exact in int64."""
    rows = np.clip(indices.astype(np.int64), 0, len(table) - 1)
    return _scaled(np.take(table, rows, axis=0), multiplier[rows], shift, zero_point, low, high, to)


def _scaled(
    rows: Array, multiplier: Array, shift: int, zero_point: int, low: int, high: int, to: np.dtype[Any]
) -> Array:
    spread = multiplier.reshape(multiplier.shape + (1,) * (rows.ndim - multiplier.ndim))
    product = rows.astype(np.int64) * spread.astype(np.int64)
    return clamp(round_shift(product, shift) + zero_point, low, high, to)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """What each column of the reachable rows becomes; every intermediate fits by SHIFT_MAX."""
    table, multiplier = call.constant(0), call.constant(1)
    first, last = (int(np.clip(v, 0, len(table) - 1)) for v in (inputs[2].least, inputs[2].most))
    least, most = None, None
    for start in range(first, last + 1, _AT_A_TIME):
        part = slice(start, min(start + _AT_A_TIME, last + 1))
        rows = _scaled(table[part], multiplier[part], **call.attrs)
        least = rows.min(axis=0) if least is None else np.minimum(least, rows.min(axis=0))
        most = rows.max(axis=0) if most is None else np.maximum(most, rows.max(axis=0))
    assert least is not None
    assert most is not None
    return [Interval.of(least, most)]


_AT_A_TIME = 4096  # rows whose products in 64 bits are held at once


def body(b: Body, table: str, multiplier: str, indices: str) -> str:
    """Two Gathers, a product in int64."""
    row = limited(b, table, indices)
    # The rows' factors meet rows of any rank: [I…] becomes [I…, 1 …].
    values = b.wide(b("Gather", table, row, axis=0))
    factors = b.wide(b("Gather", multiplier, row, axis=0))
    ones = b("Sub", b("Shape", b("Shape", values)), b("Shape", b("Shape", factors)))
    shape = b("Concat", b("Shape", factors), b("Expand", b.vector(1), ones), axis=0)
    return b.clamp(b.round_shift(b("Mul", values, b("Reshape", factors, shape)), b.attribute("shift")))


OP = register(
    Op(
        "ScaledEmbedding",
        (
            Input("table", (S8,), constant=True),
            Input("multiplier", (S16,), constant=True),
            Input("indices", (S32, S64)),
        ),
        (Attribute("shift"), *clamp_attributes()),
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
