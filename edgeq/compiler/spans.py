"""When the parts of a buffer are in use: rows that are written or read one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES
from edgeq.compiler.program import Touch, View

SHORTEST = 64  # bytes of a part: the border of a row goes with the row


@dataclass(frozen=True)
class Span:
    """Bytes from `start` to the next span, and the first and last step that touch them."""

    start: int
    first: int
    last: int


def spans(size: int, touches: Sequence[Touch]) -> list[Span]:
    """The parts of a buffer of `size` bytes, from its start to its end.

    Bytes that nothing touches belong to their neighbours.
    """
    never = np.iinfo(np.int64).max
    first, last = np.full(size, never), np.full(size, -1, np.int64)
    for touch in touches:
        where = _bytes_of(touch.view)
        where = where[(where >= 0) & (where < size)]  # phases of a transposed convolution begin inside the image
        first[where] = np.minimum(first[where], touch.step)
        last[where] = np.maximum(last[where], touch.step)
    used = np.flatnonzero(last >= 0)
    if not used.size:
        return [Span(0, 0, 0)]
    nearest = used[np.maximum(np.searchsorted(used, np.arange(size), side="right") - 1, 0)]
    first, last = first[nearest], last[nearest]
    starts = [0, *(np.flatnonzero((np.diff(first) != 0) | (np.diff(last) != 0)) + 1).tolist()]
    return _long_enough([Span(at, int(first[at]), int(last[at])) for at in starts], size)


def _bytes_of(view: View) -> np.ndarray:
    """Numbers of all bytes that a view covers."""
    width = DTYPE_BYTES[view.dtype]
    where = np.array([view.byte_offset()], np.int64)
    for length, stride in zip(view.shape, view.strides, strict=True):
        where = (where[:, None] + np.arange(length, dtype=np.int64) * (stride * width)).reshape(-1)
    return (where[:, None] + np.arange(width)).reshape(-1)


def _long_enough(found: list[Span], size: int) -> list[Span]:
    """Short spans become part of the one before (the first: behind) them."""
    merged: list[Span] = []
    ends = [*(span.start for span in found[1:]), size]
    for span, end in zip(found, ends, strict=True):
        short = end - span.start < SHORTEST or (merged and span.start - merged[-1].start < SHORTEST)
        if merged and short:
            before = merged[-1]
            merged[-1] = Span(before.start, min(before.first, span.first), max(before.last, span.last))
        else:
            merged.append(span)
    return merged
