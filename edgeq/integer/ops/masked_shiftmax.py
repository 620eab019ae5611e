"""MaskedShiftmax (shift form): elements whose mask is 0 don't take part. Exactly 0 comes out for them,
whatever they hold, and for every element of a row that has no other.

The mask stays outside the scale of the logits: nothing large is added to them. Otherwise as Shiftmax.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.integer.body import Body
from edgeq.integer.ops import probabilities
from edgeq.integer.ops.shiftmax import ATTRIBUTES, evaluate, infer, interval, write
from edgeq.integer.registry import Op, derive_clamp, register

Array = np.ndarray[Any, np.dtype[Any]]


def reference(x: Array, mask: Array, **attrs: Any) -> Array:
    """Exact in int64."""
    return evaluate(x, mask, **attrs)


def body(b: Body, x: str, mask: str) -> str:
    """In int64."""
    return write(b, x, mask)


OP = register(
    Op(
        "MaskedShiftmax",
        (probabilities.X, probabilities.MASK),
        ATTRIBUTES,
        infer,
        reference,
        interval,
        body,
        derive=derive_clamp,
    )
)
