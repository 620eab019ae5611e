"""Intervals of integer values: what every op's proof of width works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.errors import CompileError
from edgeq.integer.arithmetic import INT32_MAX, INT32_MIN, dtype_range

Bound = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Interval:
    """low <= value <= high, elementwise; int64 arrays that broadcast against the value (rank 0: one bound for all)."""

    low: Bound
    high: Bound

    @staticmethod
    def of(low: Any, high: Any) -> Interval:
        """From numbers or arrays."""
        return Interval(np.asarray(low, dtype=np.int64), np.asarray(high, dtype=np.int64))

    @staticmethod
    def of_dtype(dtype: np.dtype[Any]) -> Interval:
        """Everything a dtype can hold."""
        return Interval.of(*dtype_range(dtype))

    @staticmethod
    def of_constant(value: np.ndarray[Any, Any]) -> Interval:
        """The exact values of a constant, element by element."""
        return Interval.of(value, value)

    @property
    def least(self) -> int:
        """Lowest bound of all elements."""
        return int(self.low.min()) if self.low.size else 0

    @property
    def most(self) -> int:
        """Highest bound of all elements."""
        return int(self.high.max()) if self.high.size else 0

    def collapse(self) -> Interval:
        """One bound for the whole value: what survives a change of shape."""
        return Interval.of(self.least, self.most)

    def shifted(self, offset: int) -> Interval:
        """Of value + offset."""
        return Interval(self.low + offset, self.high + offset)

    def scaled(self, factor: int | Bound) -> Interval:
        """Of value · factor."""
        a, b = self.low * np.asarray(factor, dtype=np.int64), self.high * np.asarray(factor, dtype=np.int64)
        return Interval(np.minimum(a, b), np.maximum(a, b))

    def plus(self, other: Interval) -> Interval:
        """Of the sum of two values."""
        return Interval(self.low + other.low, self.high + other.high)

    def times(self, other: Interval) -> Interval:
        """Of the product of two values."""
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(
            np.minimum.reduce(np.broadcast_arrays(*corners)), np.maximum.reduce(np.broadcast_arrays(*corners))
        )

    def with_zero(self) -> Interval:
        """Widened to hold 0: padding, empty and partial sums."""
        return Interval(np.minimum(self.low, 0), np.maximum(self.high, 0))

    def union(self, other: Interval) -> Interval:
        """Smallest single interval that holds both values, all elements."""
        return Interval.of(min(self.least, other.least), max(self.most, other.most))

    def map(self, function: Callable[[Bound], Any]) -> Interval:
        """Of function(value) for a function that never falls."""
        return Interval.of(function(self.low), function(self.high))


def require(interval: Interval, where: str, what: str, low: int = INT32_MIN, high: int = INT32_MAX) -> Interval:
    """The interval itself, proven inside [low, high].

    Args:
        where: the node, for the message. what: the intermediate, in words.

    Raises:
        CompileError: it could leave the range.
    """
    if interval.least < low or interval.most > high:
        width = "32 bits" if (low, high) == (INT32_MIN, INT32_MAX) else f"[{low}, {high}]"
        raise CompileError(
            f"{what} could overflow {width}",
            where=where,
            why=f"it can reach [{interval.least}, {interval.most}]",
            hint="lower the layer's weight bits, split it, or check its scales and bias",
        )
    return interval
