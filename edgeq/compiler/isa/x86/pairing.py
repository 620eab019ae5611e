"""Weights of 7 and 8 bits through pmaddubsw in an order, and as deep, as they allow (isa/x86/arrangement.py).

Weights of a block lie as

    int32 words: how many sets of each size and paired steps there are; then the place of every group in x, in the order
        in which groups are multiplied; behind them place of the window and index for pshufb of every paired step
    bytes: [vectors, lanes, 4] of every group and paired step, in the same order

so that loops' lengths differ from block to block and one kernel serves all. A group's place says in which run of K it
is, so all runs are one list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.compiler.isa import byte_dot
from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Product, Run
from edgeq.compiler.isa.x86.arrangement import DEPTHS, GROUP, SHORT, WINDOW, Block, arrange
from edgeq.errors import CompileError

LEAST_K = 48  # shorter runs gain nothing
LONG_K, LARGE_SETS = 256, 1 / 3  # sets of more than two need such a K, and so many of its groups in them
_HEADER = 8  # words in front of the places
_LINE = 16  # words of a cache line: weights start at a multiple
# Instructions for 32 products by size of the set: pmaddubsw, paddw for all but one, pmaddwd and paddd once a set; for a
# paired step pshufb of one register serves two.
_EFFORT = {**{size: 1 + (size - 1) / size + 2 / size for size in (*DEPTHS, 1)}, 0: 3.5}
_EFFORT_UNIT = 16  # efforts are kept as whole sixteenths
# Measured beside what the same layers take with their groups as they lie: sets of three and four gain less than the sum
# of their instructions says. With 6 bits depths of three and more are faster, with 7 bits sets stay ahead.
_LARGE_SETS_EFFORT = 1.12


@dataclass(frozen=True)
class ArrangedBytes(Product):
    """pmaddubsw on sets of groups and on pairs.

    Attributes:
        layout: (registers side by side, words, steps of a block, sixteenths of an instruction a step takes, sizes of
            sets from the largest down), of the block that needs most; sixteenths are an average.
        pace, dot: as in `BytePairs`.
    """

    layout: tuple[int, ...] = ()
    pace: float = 0.46
    dot: byte_dot.ByteDot = byte_dot.X86

    @property
    def bounded(self) -> bool:
        return True

    @property
    def whole(self) -> bool:
        return True

    @property
    def peer_depth(self) -> int:
        return 2 if self.layout and self.layout[3] < _EFFORT_UNIT * (_EFFORT[2] + _EFFORT[1]) / 2 else 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of sets, single groups last."""
        return (*self.layout[4:], 1)

    def planned(self, depth: int, steps: tuple[int, ...]) -> ArrangedBytes | None:
        return replace(self, layout=steps) if steps else None

    def steps_for(self, weights: IntArray) -> tuple[int, ...]:
        channels, runs, windows, _ = weights.shape
        if runs * windows * WINDOW < LEAST_K:
            return ()
        vectors = min(self.widest, -(-channels // self.lanes))
        depths = DEPTHS if runs * windows * WINDOW >= LONG_K else SHORT
        blocks = self._blocks(weights, vectors, depths)
        large = sum(found.size for block in blocks for size, found in block.sets.items() if size > SHORT[0])
        if depths != SHORT and large < LARGE_SETS * sum(block.steps for block in blocks):
            depths = SHORT
            blocks = self._blocks(weights, vectors, depths)
        counts = np.array([block.counts for block in blocks])
        steps = int(max(block.steps for block in blocks))
        sizes = np.array([*depths, 1, 1])
        efforts = np.array([size * _EFFORT[size] for size in (*depths, 1)] + [_EFFORT[0]])
        effort = (counts * efforts).sum() / max(1, (counts * sizes).sum())
        places = _HEADER + max(block.steps + len(block.pairs) for block in blocks)
        return vectors, -(-places // _LINE) * _LINE, steps, round(effort * _EFFORT_UNIT), *depths

    def _blocks(self, weights: IntArray, vectors: int, depths: tuple[int, ...]) -> tuple[Block, ...]:
        """The arrangement of int8 [channels, runs, windows, 16]."""
        channels, runs, windows, _ = weights.shape
        data = np.ascontiguousarray(weights).tobytes()
        return arrange(data, (channels, runs * windows, WINDOW), vectors * self.lanes, depths)

    def misfit(self, weights: IntArray) -> str | None:
        return None  # `pack` takes what is safe, or says that it takes more steps

    def fits(self, rows: int, vectors: int) -> bool:
        return vectors in (self.layout[:1] or (vectors,)) and rows * vectors + vectors + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        effort = self.layout[3] / _EFFORT_UNIT if self.layout else 3.0
        if self.sizes[0] > SHORT[0]:
            effort *= _LARGE_SETS_EFFORT
        return self.pace * rows * vectors * effort + 0.25 * (rows + vectors) + 0.7

    def run_steps(self, groups: int) -> int:
        return self.layout[2]

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 14.0 + 4.0 * rows * vectors

    def run_bytes(self, groups: int, vectors: int) -> int:
        _, words, steps = self.layout[:3]
        return 4 * words + steps * vectors * self.lanes * GROUP

    def pack_layer(
        self, weights: IntArray, lanes: IntArray, blocks: list[tuple[int, int]], places: IntArray
    ) -> IntArray:
        vectors, words, steps = self.layout[:3]
        found = self._blocks(weights, vectors, self.layout[4:])
        parts = []
        for block, (start, own_vectors) in zip(found, blocks, strict=True):
            if _HEADER + block.steps + len(block.pairs) > words or block.steps > steps:
                why = f"{block.counts} in {words} words and {steps} steps"
                raise CompileError("8-bit weights take other steps than were planned", why=why)
            columns = lanes[start : start + own_vectors * self.lanes].reshape(own_vectors * self.lanes, -1)
            header, rows = _packed(block, columns.astype(np.int16), places)
            size = own_vectors * self.lanes * GROUP
            data = np.zeros((steps, size), np.int8)
            data[: len(rows)] = rows.reshape(len(rows), size)
            own_words = np.zeros(words, "<i4")
            own_words[: len(header)] = header
            parts += [own_words.view(np.int8), data.reshape(-1)]
        return np.concatenate(parts)

    def accumulate(self, run: Run) -> None:
        size = run.vectors * self.lanes * GROUP
        base, op = run.w_index, tir.tirx.op
        counts = [_word(run, base + 4 * number) for number in range(len(self.sizes) + 1)]
        word, data = tir.bind(base + 4 * _HEADER), tir.bind(base + 4 * self.layout[1])
        for depth, count in zip(self.sizes, counts[:-1], strict=True):
            with tir.T.serial(0, count) as number:
                self._set(run, depth, tir.bind(word + number * (4 * depth)), tir.bind(data + number * (depth * size)))
            word, data = tir.bind(word + count * (4 * depth)), tir.bind(data + count * (depth * size))
        with tir.T.serial(0, counts[-1]) as number:
            self._paired(run, tir.bind(word + op.shift_left(number, tir.const(3))), tir.bind(data + number * size))

    def _set(self, run: Run, depth: int, word: Expr, data: Expr) -> None:
        """`depth` groups whose products share 16-bit sums."""
        size = run.vectors * self.lanes * GROUP
        places = [_word(run, word + 4 * k) for k in range(depth)]
        weights = [self._weights(run, data + k * size) for k in range(depth)]
        for row in range(run.rows):
            sums: list[Expr | None] = [None] * run.vectors
            for place, own in zip(places, weights, strict=True):
                group = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + place, GROUP))
                x = tir.bind(tir.reinterpret(f"uint8x{GROUP * self.lanes}", tir.broadcast(group, self.lanes)))
                sums = [self._add(before, x, w) for before, w in zip(sums, own, strict=True)]
            self._widen(run, row, sums)

    def _paired(self, run: Run, word: Expr, data: Expr) -> None:
        """Four k of a window by their index."""
        place, weights, size = _word(run, word), self._weights(run, data), GROUP * self.lanes
        order = tir.bind(tir.reinterpret(f"int8x{size}", tir.broadcast(_word(run, word + 4), self.lanes)))
        for row in range(run.rows):
            window = tir.bind(tir.reinterpret("int8x16", tir.vload(run.x, run.x_index(row) + place, WINDOW)))
            x = tir.bind(tir.reinterpret(f"uint8x{size}", self.dot.permute(window, order)))
            self._widen(run, row, [self._add(None, x, w) for w in weights])

    def _weights(self, run: Run, start: Expr) -> list[Expr]:
        size = GROUP * self.lanes
        return [tir.bind(tir.vload(run.w, start + v * size, size)) for v in range(run.vectors)]

    def _add(self, before: Expr | None, x: Expr, w: Expr) -> Expr:
        product = self.dot.multiply(x, w)
        return tir.bind(product if before is None else before + product)

    def _widen(self, run: Run, row: int, sums: list[Expr | None]) -> None:
        """Adds a row's 16-bit sums to its accumulators."""
        for vector, value in enumerate(sums):
            place = row * run.vectors + vector
            run.store(place, run.load(place) + self.dot.widen(value))


def _word(run: Run, start: Expr) -> Expr:
    """The int32 at a byte of the weights."""
    return tir.bind(tir.reinterpret("int32", tir.vload(run.w, start, 4)))


def _packed(block: Block, columns: IntArray, places: IntArray) -> tuple[list[int], IntArray]:
    """(words, int8 [steps, columns, 4]) of a block.

    Args:
        columns: int16 [columns, K], K in windows.
        places: int [windows], where each begins in x.
    """
    order = np.concatenate([block.sets[size].reshape(-1) for size in sorted(block.sets, reverse=True)])
    where = places[order // (WINDOW // GROUP)] + order % (WINDOW // GROUP) * GROUP
    by_group = columns.reshape(len(columns), -1, GROUP)
    pairs = [_paired_step(columns[:, WINDOW * window : WINDOW * (window + 1)], own) for window, own in block.pairs]
    words = [*block.counts, *[0] * (_HEADER - len(block.counts)), *where.tolist()]
    words += [
        word for (window, _), (index, _) in zip(block.pairs, pairs, strict=True) for word in (places[window], index)
    ]
    rows = [by_group[:, order].transpose(1, 0, 2), *(quad[None] for _, quad in pairs)]
    return words, np.concatenate(rows).astype(np.int8)


def _paired_step(window: IntArray, pairs: list[tuple[int, int]]) -> tuple[int, IntArray]:
    """(index, int16 [columns, 4]) of one or two pairs of a window int16 [columns, 16]."""
    index, quad = 0, np.zeros((len(window), GROUP), np.int16)
    for half, (a, b) in enumerate(pairs):
        index |= (a | b << 8) << 16 * half
        quad[:, 2 * half] = window[:, a] >> 1 if a == b else window[:, a]
        quad[:, 2 * half + 1] = window[:, a] - (window[:, a] >> 1) if a == b else window[:, b]
    return index, quad
