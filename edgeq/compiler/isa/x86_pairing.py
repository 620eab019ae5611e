"""Full 8-bit weights at the speed of pmaddubsw: pairs of K are chosen so that no pair's 16-bit sum can saturate.

pmaddubsw adds the products of two neighbouring k; with weights of 8 bits some such pairs can pass 16 bits in a column.
Which two k meet is free, though: within a *window* of 16 consecutive k, two are *compatible* if in every column of the
block both weights' positive parts sum to at most 128, and their negative parts too (255 · 128 = 32640). A matching of
compatible k makes steps of two pairs; pshufb brings the activations into their order by a 4-byte index a step. A k that
is left over meets itself, its weight split into halves. A run has the same number of steps in every block of columns:
the largest that any needs, the others end in steps of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Product, Run
from edgeq.errors import CompileError

WINDOW = 16
MOST = 128  # largest sum of positive (negative) parts of a pair, for u8 activations
HEADER = 8  # bytes of a step before its weights: the window's place in the run, the index for pshufb
LEAST_K = 128  # shorter runs gain nothing
_BLOCKS_AT_A_TIME = 16
MOST_EXTRA = 1.05  # steps over those of weights that need no care


def compatibility(weights: IntArray) -> IntArray:
    """int8 [windows, columns, 16] -> bool [windows, 16, 16]: which two k may be a pair."""
    result = np.ones((len(weights), WINDOW, WINDOW), bool)
    for part in (np.maximum(weights, 0).astype(np.int16), -np.minimum(weights, 0).astype(np.int16)):
        for column in range(weights.shape[1]):
            own = part[:, column]
            result &= own[:, :, None] + own[:, None, :] <= MOST
    result[:, np.arange(WINDOW), np.arange(WINDOW)] = False
    return result


def matching(compatible: IntArray, free: IntArray) -> IntArray:
    """int [windows, 16]: the partner of each free k; itself where none is left or it isn't free.

    The k with the fewest compatible ones chooses first, all windows at once.

    Args:
        compatible: bool [windows, 16, 16]. free: bool [windows, 16].
    """
    free, every = free.copy(), np.arange(len(free))
    partner = np.tile(np.arange(WINDOW), (len(free), 1))
    while True:
        choices = (compatible & free[:, None, :]).sum(2)
        first = np.where(free & (choices > 0), choices, WINDOW + 1).argmin(1)
        possible = compatible[every, first] & free & free[every, first][:, None]
        second = np.where(possible, choices, WINDOW + 1).argmin(1)
        found = possible[every, second]
        if not found.any():
            return partner
        at, a, b = every[found], first[found], second[found]
        partner[at, a], partner[at, b] = b, a
        free[at, a] = free[at, b] = False


@dataclass(frozen=True)
class WindowSteps:
    """The steps of one window.

    Attributes:
        plain: first k of quads that are taken as they lie.
        pairs: (a, b) for the others, a = b where a k is split.
    """

    plain: list[int]
    pairs: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.plain) + -(-len(self.pairs) // 2)


def steps_of(weights: IntArray) -> list[WindowSteps]:
    """Steps of every window of one run and block, int8 [windows, columns, 16]; k whose weights are all 0 are left out.

    Quads stay as they lie where that takes no more steps.
    """
    compatible, live = compatibility(weights), np.any(weights, axis=1)
    neighbours = compatible[:, np.arange(0, WINDOW, 2), np.arange(1, WINDOW, 2)]
    good = neighbours.reshape(-1, 4, 2).all(2) & live.reshape(-1, 4, 4).any(2)
    whole = _windows(good & False, live, matching(compatible, live))
    kept = _windows(good, live, matching(compatible, live & ~np.repeat(good, 4, 1)))
    return [b if b.count <= a.count else a for a, b in zip(whole, kept, strict=True)]


def _windows(quads: IntArray, live: IntArray, partner: IntArray) -> list[WindowSteps]:
    others = live & ~np.repeat(quads, 4, 1)
    rows = zip(quads.tolist(), others.tolist(), partner.tolist(), strict=True)
    return [
        WindowSteps(
            [4 * q for q in range(4) if plain[q]],
            [(k, own[k]) for k in range(WINDOW) if k <= own[k] and (left[k] or left[own[k]])],
        )
        for plain, left, own in rows
    ]


@lru_cache(maxsize=4)
def _enough(data: bytes, shape: tuple[int, ...], columns: int, most: int) -> tuple[int, int]:
    """(plain, other) steps that are enough for every run and block of int8 [columns, runs, windows, 16].

    (0, 0) as soon as one takes more than `most`: weights that pair badly do so everywhere.
    """
    channels, runs, windows, _ = shape
    padded = np.zeros((-(-channels // columns) * columns, *shape[1:]), np.int8)
    padded[:channels] = np.frombuffer(data, np.int8).reshape(shape)
    blocks: IntArray = padded.reshape(-1, columns, runs, windows, WINDOW).transpose(0, 2, 3, 1, 4)
    plain, total = windows * 4, 0
    for start in range(0, len(blocks), _BLOCKS_AT_A_TIME):
        some = blocks[start : start + _BLOCKS_AT_A_TIME]
        found = steps_of(np.ascontiguousarray(some).reshape(-1, columns, WINDOW))
        for first in range(0, len(found), windows):
            run = found[first : first + windows]
            plain = min(plain, sum(len(window.plain) for window in run))
            total = max(total, sum(window.count for window in run))
        if total > most:
            return 0, 0
    return plain, total - plain


@dataclass(frozen=True)
class WindowPairs(Product):
    """pmaddubsw on compatible pairs, widened every step.

    Attributes:
        steps: of a run: those that take four k as they lie, then those that need pshufb.
    """

    steps: tuple[int, int] = (0, 0)
    pace: float = 0.46

    @property
    def bounded(self) -> bool:
        return True

    def planned(self, depth: int, steps: tuple[int, int]) -> WindowPairs | None:
        return replace(self, steps=steps) if any(steps) else None

    def steps_for(self, weights: IntArray) -> tuple[int, int]:
        length = weights.shape[2] * WINDOW
        if length < LEAST_K:
            return 0, 0
        most = int(MOST_EXTRA * length / 4)
        return _enough(np.ascontiguousarray(weights).tobytes(), weights.shape, self.widest * self.lanes, most)

    def misfit(self, weights: IntArray) -> str | None:
        return None  # `pack` finds a matching or says that there is none

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + vectors + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        return self.pace * (3 * rows * vectors + rows * self.steps[1] / sum(self.steps)) + 0.25 * (rows + vectors) + 1.0

    def run_steps(self, groups: int) -> int:
        return sum(self.steps)

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 4.0 * rows * vectors

    def step_bytes(self, vectors: int) -> int:
        """Bytes of one packed step."""
        return HEADER + vectors * self.lanes * 4

    def run_bytes(self, groups: int, vectors: int) -> int:
        return sum(self.steps) * self.step_bytes(vectors)

    def pack(self, weights: IntArray) -> IntArray:
        """int8 [windows, vectors, lanes, 16] -> steps: place and index (int32 each), then [vectors, lanes, 4]."""
        _, vectors, lanes, _ = weights.shape
        columns = weights.reshape(len(weights), vectors * lanes, WINDOW).astype(np.int16)
        windows = steps_of(weights.reshape(len(weights), vectors * lanes, WINDOW))
        plain = [_plain_step(columns[w], w, first) for w, own in enumerate(windows) for first in own.plain]
        others = [
            _paired_step(columns[w], w, own.pairs[at : at + 2])
            for w, own in enumerate(windows)
            for at in range(0, len(own.pairs), 2)
        ]
        steps = plain + others
        if len(plain) < self.steps[0] or len(steps) > sum(self.steps):
            why = f"{len(plain)} + {len(others)} of {self.steps}"
            raise CompileError("pairs of 8-bit weights take other steps than were planned", why=why)
        packed = np.zeros((sum(self.steps), self.step_bytes(vectors)), np.int8)
        for number, (place, index, quad) in enumerate(steps):
            # The first steps are read at their place without an index, the others by index from their window.
            start = place + (index & 0xFF) if number < self.steps[0] else place
            header = np.array([start, index], "<u4").view(np.int8)
            packed[number] = np.concatenate([header, quad.astype(np.int8).reshape(-1)])
        return packed

    def accumulate(self, run: Run) -> None:
        size = self.step_bytes(run.vectors)
        plain, others = self.steps
        if plain:
            with tir.T.serial(0, plain) as step:
                self._plain(run, tir.bind(run.w_index + step * size))
        if others:
            with tir.T.serial(0, others) as step:
                self._paired(run, tir.bind(run.w_index + (step + plain) * size))

    def _plain(self, run: Run, start: Any) -> None:
        """Four k as they lie."""
        place, weights = self._word(run, start), self._weights(run, start)
        for row in range(run.rows):
            word = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + place, 4))
            self._multiply(run, row, tir.bind(tir.reinterpret("uint8x32", tir.broadcast(word, self.lanes))), weights)

    def _paired(self, run: Run, start: Any) -> None:
        """Four k of a window by their index."""
        place, weights = self._word(run, start), self._weights(run, start)
        order = tir.bind(tir.reinterpret("int8x32", tir.broadcast(self._word(run, start + 4), self.lanes)))
        for row in range(run.rows):
            window = tir.bind(tir.reinterpret("int8x16", tir.vload(run.x, run.x_index(row) + place, WINDOW)))
            both = tir.shuffle([window, window], range(2 * WINDOW))
            x = tir.bind(tir.intrin("int8x32", "llvm.x86.avx2.pshuf.b", both, order))
            self._multiply(run, row, tir.reinterpret("uint8x32", x), weights)

    @staticmethod
    def _word(run: Run, start: Any) -> Expr:
        return tir.bind(tir.reinterpret("int32", tir.vload(run.w, start, 4)))

    def _weights(self, run: Run, start: Any) -> list[Expr]:
        size = 4 * self.lanes
        return [tir.bind(tir.vload(run.w, start + HEADER + v * size, size)) for v in range(run.vectors)]

    def _multiply(self, run: Run, row: int, x: Expr, weights: list[Expr]) -> None:
        ones = tir.broadcast(tir.const(1, "int16"), 2 * self.lanes)
        for vector, w in enumerate(weights):
            place = row * run.vectors + vector
            pairs = tir.intrin("int16x16", "llvm.x86.avx2.pmadd.ub.sw", x, w)
            run.store(place, run.load(place) + tir.intrin("int32x8", "llvm.x86.avx2.pmadd.wd", pairs, ones))


def _plain_step(columns: IntArray, window: int, first: int) -> tuple[int, int, IntArray]:
    """(place of the window, index, int16 [columns, 4])."""
    index = sum((first + k) << 8 * k for k in range(4))
    return window * WINDOW, index, columns[:, first : first + 4]


def _paired_step(columns: IntArray, window: int, pairs: list[tuple[int, int]]) -> tuple[int, int, IntArray]:
    """The same for one or two pairs."""
    index, quad = 0, np.zeros((len(columns), 4), np.int16)
    for half, (a, b) in enumerate(pairs):
        index |= (a | b << 8) << 16 * half
        quad[:, 2 * half] = columns[:, a] >> 1 if a == b else columns[:, a]
        quad[:, 2 * half + 1] = columns[:, a] - (columns[:, a] >> 1) if a == b else columns[:, b]
    return window * WINDOW, index, quad
