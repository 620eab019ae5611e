"""Sources of random decisions and the collector of one test case's graph and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st

from edgeq.integer import IntegerGraph
from edgeq.integer import arithmetic as arith
from edgeq.integer.builder import GraphBuilder, emit

Array = np.ndarray[Any, np.dtype[Any]]


class Choice(Protocol):
    """Where random decisions come from."""

    def integer(self, low: int, high: int) -> int:
        """A number in [low, high]."""

    def rng(self) -> np.random.Generator:
        """A generator for array contents."""


class RandomChoice:
    """Decisions from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def rng(self) -> np.random.Generator:
        return self._rng


class HypothesisChoice:
    """Decisions drawn from hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def rng(self) -> np.random.Generator:
        return self._rng


@dataclass(frozen=True)
class Case:
    """A graph and inputs to run it on."""

    builder: GraphBuilder
    inputs: dict[str, Array]

    @cached_property
    def graph(self) -> IntegerGraph:
        """The finished graph."""
        return self.builder.finish()


class Maker:
    """Collects the inputs of one case while its graph is built.

    Args:
        choice: decides everything.
        builder: of a graph that several cases share; `prefix` tells their names apart.
    """

    def __init__(self, choice: Choice, builder: GraphBuilder | None = None, prefix: str = "") -> None:
        self.choice = choice
        self.builder = builder or GraphBuilder()
        self.prefix = prefix
        self.inputs: dict[str, Array] = {}

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.choice.integer(0, len(options) - 1)]

    def number(self, low: int, high: int) -> int:
        """A number in [low, high]."""
        return self.choice.integer(low, high)

    def array(self, dtype: Any, shape: Sequence[int], low: int | None = None, high: int | None = None) -> Array:
        """Random values, extremes only, one extreme, or small values."""
        least, most = arith.dtype_range(dtype)
        least, most = least if low is None else low, most if high is None else high
        rng, kind = self.choice.rng(), self.number(0, 5)
        if kind == 0:
            return np.full(shape, least, dtype)
        if kind == 1:
            return np.full(shape, most, dtype)
        if kind == 2:
            return rng.choice(np.array([least, most], dtype), shape)
        if kind == 3:
            least, most = max(least, -3), min(most, 3)
        if least > most:
            least, most = arith.dtype_range(dtype) if low is None or high is None else (low, high)
        return rng.integers(least, most + 1, shape).astype(dtype)

    def input(
        self, dtype: Any, shape: Sequence[int], name: str = "x", low: int | None = None, high: int | None = None
    ) -> Any:
        """A graph input with random contents."""
        name = self.prefix + name
        self.inputs[name] = self.array(dtype, shape, low, high)
        return self.builder.input(name, dtype, shape)

    def emit(self, op: str, inputs: Sequence[Any], **attrs: Any) -> Any:
        """One node of the case."""
        return emit(self.builder, op, inputs, name=self.prefix + op, **attrs)

    def done(self, *outputs: Any) -> Case:
        """The finished case."""
        for i, value in enumerate(outputs):
            self.builder.output(value, f"{self.prefix}y{i}")
        return Case(self.builder, self.inputs)

    def zero_point(self, dtype: Any) -> int:
        """A legal zero point of a dtype, often an extreme one."""
        low, high = arith.dtype_range(dtype)
        if np.dtype(dtype).itemsize > 1:
            return 0
        return int(self.pick(low, high, 0 if low else 128, self.number(low, high)))

    def clamp(self, *dtypes: Any) -> dict[str, Any]:
        """zero_point, low, high, to."""
        to = self.pick(*dtypes)
        low, high = arith.dtype_range(to)
        if self.number(0, 1):
            low = self.number(low, high)
            high = self.number(low, high)
        return {"zero_point": self.zero_point(to), "low": low, "high": high, "to": to}

    def geometry(self, height: int, width: int) -> tuple[list[int], dict[str, Any]]:
        """Kernel, strides, pads and dilations that leave an output for the image."""
        while True:
            kernel, dilations = ([self.number(1, top) for _ in range(2)] for top in (4, 2))
            pads, strides = [self.number(0, 2) for _ in range(4)], [self.number(1, 3) for _ in range(2)]
            spans = [dilations[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
            if height + pads[0] + pads[2] >= spans[0] and width + pads[1] + pads[3] >= spans[1]:
                return kernel, {"strides": strides, "pads": pads, "dilations": dilations}

    def shape(self, low_rank: int = 1, high_rank: int = 4) -> list[int]:
        """A small random shape."""
        return [self.number(1, 5) for _ in range(self.number(low_rank, high_rank))]

    def broadcast_pair(self) -> tuple[list[int], list[int]]:
        """Two shapes that broadcast."""
        whole = self.shape()
        a, b = ([n if self.number(0, 2) else 1 for n in whole] for _ in range(2))
        return (a, b[self.number(0, len(b) - 1) :]) if self.number(0, 1) else (a, whole)
