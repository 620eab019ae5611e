"""Streamed statistics of one tensor: a histogram that grows with its data, extremes, and extremes per sample.

The grid of the histogram is anchored at zero and its bin width is a power of two, so that two histograms of any widths
merge exactly: the finer one is folded pairwise until the widths agree. The result does not depend on how the samples
were cut into pieces, and hardly on their order (only the first piece chooses the initial width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

#: Bins the first piece of data is spread over (at least half of it), and the most a histogram may have.
FIRST_BINS = 2048
MAX_BINS = 4096

#: Width used while every value seen is zero; anything positive does, it only grows from here by folding.
_TINY = 2.0**-126


@dataclass
class TensorStatistics:
    """What calibration remembers of a tensor.

    Attributes:
        width: bin width, a power of two, in tensor units; bin i covers (first + i)·width to (first + i + 1)·width.
        first: index of the first bin (may be negative).
        counts: values per bin, int64. Exact zeros are not in the bins but in `zeros`: zero is representable without
            error in every quantization, and in a ReLU network it would drown the rest.
        zeros: number of exact zeros among the values counted.
        low, high: extremes over *all* values, also those that were not counted (subsampling).
        sample_lows, sample_highs: extremes per sample, in the order observed.
    """

    width: float = 0.0
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    zeros: int = 0
    low: float = math.inf
    high: float = -math.inf
    sample_lows: list[float] = field(default_factory=list)
    sample_highs: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of values counted, zeros included."""
        return int(self.counts.sum()) + self.zeros

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins."""
        index = np.arange(len(self.counts), dtype=np.float64) + self.first
        return np.asarray((index + 0.5) * self.width, dtype=np.float64)

    def observe(self, values: FloatArray, stride: int = 1, extremes: tuple[float, float] | None = None) -> None:
        """Take in one sample.

        Args:
            values: finite floats of any shape.
            stride: count only every stride-th value, each as `stride` of them; the extremes look at all.
            extremes: (lowest, highest) of the values where they are known already.
        """
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if not flat.size:
            return
        low, high = extremes or (float(flat.min()), float(flat.max()))
        self.sample_lows.append(low)
        self.sample_highs.append(high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        counted = flat[::stride]
        nonzero = counted[counted != 0]
        self.zeros += (counted.size - nonzero.size) * stride
        if nonzero.size:
            self._count(nonzero, stride)

    def _count(self, values: FloatArray, weight: int) -> None:
        low, high = float(values.min()), float(values.max())
        if not self.counts.size:
            self.width = _initial_width(low, high)
            self.first = math.floor(low / self.width)
        while self._bins_needed(low, high) > MAX_BINS:
            self.fold()
        self._extend(math.floor(low / self.width), math.floor(high / self.width))
        index = np.floor(values * np.float32(1.0 / self.width)).astype(np.int64) - self.first
        # A float32 product may round up into the neighbouring bin at the very edge.
        np.clip(index, 0, len(self.counts) - 1, out=index)
        self.counts += np.bincount(index, minlength=len(self.counts)) * weight

    def _bins_needed(self, low: float, high: float) -> int:
        first = math.floor(low / self.width)
        last = math.floor(high / self.width)
        if self.counts.size:
            first, last = min(first, self.first), max(last, self.first + len(self.counts) - 1)
        return last - first + 1

    def _extend(self, first: int, last: int) -> None:
        before = max(0, self.first - first) if self.counts.size else 0
        start = min(first, self.first) if self.counts.size else first
        stop = max(last + 1, self.first + len(self.counts)) if self.counts.size else last + 1
        if stop - start != len(self.counts):
            grown = np.zeros(stop - start, np.int64)
            grown[before : before + len(self.counts)] = self.counts
            self.counts = grown
        self.first = start

    def fold(self) -> None:
        """Double the bin width."""
        self.width *= 2
        if not self.counts.size:
            self.first = 0
            return
        lead = self.first % 2
        tail = (lead + len(self.counts)) % 2
        padded = np.pad(self.counts, (lead, tail))
        self.counts = padded.reshape(-1, 2).sum(axis=1)
        self.first = (self.first - lead) // 2

    def merge(self, other: TensorStatistics) -> None:
        """Add the statistics of another tensor, exactly (used where two tensors have to share one scale)."""
        self.sample_lows = _join(self.sample_lows, other.sample_lows, min)
        self.sample_highs = _join(self.sample_highs, other.sample_highs, max)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        if not other.counts.size:
            return
        if not self.counts.size:
            self.width, self.first, self.counts = other.width, other.first, other.counts.copy()
            return
        piece = other.copy()
        while piece.width < self.width:
            piece.fold()
        while self.width < piece.width:
            self.fold()
        self._extend(piece.first, piece.first + len(piece.counts) - 1)
        offset = piece.first - self.first
        self.counts[offset : offset + len(piece.counts)] += piece.counts
        while len(self.counts) > MAX_BINS:
            self.fold()

    def copy(self) -> TensorStatistics:
        """An independent copy."""
        return TensorStatistics(
            self.width,
            self.first,
            self.counts.copy(),
            self.zeros,
            self.low,
            self.high,
            list(self.sample_lows),
            list(self.sample_highs),
        )


def _initial_width(low: float, high: float) -> float:
    """Power of two so that [low, high], widened to hold zero, takes FIRST_BINS bins at most."""
    span = max(high, 0.0) - min(low, 0.0)
    if span <= _TINY * FIRST_BINS:
        return _TINY
    return float(2.0 ** math.ceil(math.log2(span / FIRST_BINS)))


def _join(mine: list[float], theirs: list[float], pick: Callable[[float, float], float]) -> list[float]:
    # Samples are observed in the same order for every tensor, so position is identity.
    shared = [pick(a, b) for a, b in zip(mine, theirs, strict=False)]
    longer = mine if len(mine) > len(theirs) else theirs
    return shared + longer[len(shared) :]
