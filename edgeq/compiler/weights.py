"""The constants of one artifact in one blob: each content once, whichever step, program or variant reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from edgeq.compiler.program import ALIGNMENT


class WeightPool:
    """Grows while programs are compiled; offsets never move.

    Args:
        alignment: of every array, in bytes.
    """

    def __init__(self, alignment: int = ALIGNMENT) -> None:
        self._alignment = alignment
        self._arrays: list[np.ndarray] = []
        self._offsets: dict[bytes, int] = {}
        self._end = 0

    def add(self, arrays: Iterable[np.ndarray]) -> list[int]:
        """Where each array begins, in bytes."""
        offsets = []
        for array in arrays:
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            key = hashlib.blake2b(data.data, digest_size=32).digest()
            if key not in self._offsets:
                self._offsets[key] = self._end
                self._arrays.append(data)
                self._end = -(-(self._end + data.nbytes) // self._alignment) * self._alignment
            offsets.append(self._offsets[key])
        return offsets

    def blob(self) -> np.ndarray:
        """All bytes so far. SLACK behind the last array keeps wide loads inside."""
        blob = np.zeros(self._end + ALIGNMENT, np.uint8)
        place = 0
        for data in self._arrays:
            blob[place : place + data.nbytes] = data
            place = -(-(place + data.nbytes) // self._alignment) * self._alignment
        return blob
