"""Which other rounding would give what a device computed: the usual suspects, tried one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.evaluate.trace import Value
from edgeq.integer.graph import IntegerGraph, Step

Array = NDArray[Any]
#: (product of accumulator and multiplier, shift) → rounded quotient; int64.
Rounding = Callable[[Array, Array], Array]


def _half_up(t: Array, s: Array) -> Array:
    return np.asarray((t + (np.int64(1) << (s - 1))) >> s)


def _half_away(t: Array, s: Array) -> Array:
    return np.asarray(np.sign(t) * ((np.abs(t) + (np.int64(1) << (s - 1))) >> s))


def _half_even(t: Array, s: Array) -> Array:
    down, half = t >> s, np.int64(1) << (s - 1)
    rest = t - (down << s)
    return np.asarray(down + ((rest > half) | ((rest == half) & (down % 2 != 0))))


def _down(t: Array, s: Array) -> Array:
    return np.asarray(t >> s)


def _toward_zero(t: Array, s: Array) -> Array:
    return np.asarray(np.sign(t) * (np.abs(t) >> s))


def _two_steps(t: Array, s: Array) -> Array:
    """Doubling high multiplication, then a rounding shift, both half away from zero."""
    first = np.minimum(s, 31)
    high, left = _half_away(t, first), s - first
    return np.where(left > 0, _half_away(high, np.maximum(left, 1)), high)


SUSPECTS: dict[str, Rounding] = {
    "one rounding, half up (single)": _half_up,
    "half away from zero": _half_away,
    "half to even": _half_even,
    "two roundings: high half of the product, then a shift": _two_steps,
    "no rounding: cut off downwards": _down,
    "no rounding: cut off toward zero": _toward_zero,
}


def explain(graph: IntegerGraph, values: Mapping[str, Value], tensor: str, other: Array) -> list[str]:
    """Roundings that turn the op's own input into exactly what the other side has.

    Args:
        graph: integer graph. values: of all its tensors. tensor: the one that differs, made by a Requantize,
            RequantizeNarrow or Rescale; other ops are not tried.
        other: its integers on the other side.

    Returns:
        names from SUSPECTS, or that the clamp is missing; empty where nothing fits.
    """
    step = next((s for s in graph.steps() if tensor in [value.name for value in s.node.outputs]), None)
    own = values[tensor].raw
    found = None if step is None else _product(step, values)
    if step is None or found is None or own is None:
        return []
    product, shift = found
    if np.any(shift < 1):
        return []
    attributes = step.call.attrs
    low, high, zero = (int(attributes[name]) for name in ("low", "high", "zero_point"))
    fitting = []
    for name, rounding in SUSPECTS.items():
        result = np.clip(rounding(product, shift) + zero, low, high)
        if np.array_equal(result, other) and not np.array_equal(result, own):
            fitting.append(name)
    wrapped = (_half_up(product, shift) + zero).astype(own.dtype)
    if np.array_equal(wrapped, other) and not np.array_equal(wrapped, own):
        fitting.append("no clamp: what doesn't fit wraps around")
    return fitting


def _product(step: Step, values: Mapping[str, Value]) -> tuple[Array, Array] | None:
    """Accumulator times multiplier, and the whole shift; None for ops that have no such form."""
    op, attributes, constants = step.node.op_type, step.call.attrs, step.call.constants
    source = step.node.inputs[0]
    known = None if source is None else values.get(str(source.name))
    if known is None or known.raw is None:
        return None
    x = known.raw.astype(np.int64)
    if op == "Rescale":
        return (x - int(attributes["x_zero_point"])) * int(attributes["multiplier"]), np.int64(attributes["shift"])
    if op not in ("Requantize", "RequantizeNarrow") or constants[1] is None or constants[2] is None:
        return None
    shift = constants[2].astype(np.int64)
    if op == "RequantizeNarrow":
        shift = shift + 15 + int(attributes["post_shift"])
    return x * constants[1].astype(np.int64), shift
