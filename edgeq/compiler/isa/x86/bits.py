"""Products of weights ±a and activations of two values, by counting the bits in which they differ.

With a bit for each activation (the larger value: 1) and each weight (positive: 1), Σ w·x is a constant of the column
less another one times the number of different bits: see kernels/bits/conv.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import UNROLLED_GROUPS, Product, Run

_LONGEST = 31  # groups a byte counts: each has 8 bits, 31 · 8 < 2^8
_NIBBLES = 0x0F0F0F0F
_COUNTS = (0x0302020102010100, 0x0403030203020201)  # bits of 0 to 15, a byte each
_BESIDE = 6  # registers: the table, the mask, halves of a row's bits, two of counts on the way


@dataclass(frozen=True)
class BitCount(Product):
    """Exclusive or, then pshufb looks up the bits of every nibble; bytes count up to 255.

    A group is 32 bits: 4 bytes of x, of which each lane has its own weights. Instructions for 32 products in each lane:
    two xor, two pshufb, two additions, where a byte product takes eight or sixteen.

    Attributes:
        shuffle: LLVM's name of pshufb.
        dot: LLVM's name of vpdpbusd, which adds up the bytes of a lane; "": pmaddubsw and pmaddwd of AVX2 do.
        pace: time of one instruction in units of the target's other products.
    """

    shuffle: str = ""
    dot: str = ""
    pace: float = 0.5

    @property
    def counts(self) -> bool:
        return True

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + 2 * vectors + _BESIDE <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        return self.pace * (6.0 * rows * vectors + 3.0 * (rows + vectors)) + 0.5

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 6.0 * rows * vectors

    def initial(self, starts: Sequence[Sequence[Expr]]) -> list[Expr]:
        zero = tir.broadcast(tir.const(0), self.lanes)
        return [zero for row in starts for _ in row]

    def accumulate(self, run: Run) -> None:
        windows = -(-run.groups // _LONGEST)
        size = -(-run.groups // windows)
        for first in range(0, run.groups, size):
            self._window(run, first, min(size, run.groups - first))

    def _window(self, run: Run, first: int, groups: int) -> None:
        """Counts `groups` groups in bytes and adds them to the accumulators."""
        width = 4 * self.lanes
        counts = tir.alloc(run.rows * run.vectors, f"uint8x{width}")
        for place in range(run.rows * run.vectors):
            tir.store(counts, place, tir.broadcast(tir.const(0, "uint8"), width))
        if groups <= UNROLLED_GROUPS:
            for group in range(groups):
                self._step(run, first + group, counts)
        else:
            with tir.T.serial(0, groups + run.zero) as group:
                self._step(run, first + group, counts)
        for place in range(run.rows * run.vectors):
            run.store(place, self._add_up(run.load(place), tir.load(counts, place)))

    def _step(self, run: Run, group: Expr | int, counts: Expr) -> None:
        weights = [self._halves(self.weights_at(run, group, vector)) for vector in range(run.vectors)]
        low, high = (tir.bind(tir.broadcast(tir.const(part, "int64"), self.lanes // 2)) for part in _COUNTS)
        order = [lane for _ in range(self.lanes // 4) for lane in (0, self.lanes // 2)]
        table = tir.bind(tir.reinterpret(f"int8x{4 * self.lanes}", tir.shuffle([low, high], order)))
        for row in range(run.rows):
            word = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + group * self.group, self.group))
            x = self._halves(tir.broadcast(word, self.lanes))
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                found = [self._count(table, a, b) for a, b in zip(x, w, strict=True)]
                tir.store(counts, place, tir.load(counts, place) + (found[0] + found[1]))

    def _halves(self, bits: Expr) -> list[Expr]:
        """Low and high nibbles of every byte, as u32 lanes."""
        dtype, op = f"uint32x{self.lanes}", tir.tirx.op
        word = tir.bind(tir.reinterpret(dtype, bits))
        mask = tir.broadcast(tir.const(_NIBBLES, "uint32"), self.lanes)
        upper = op.shift_right(word, tir.broadcast(tir.const(4, "uint32"), self.lanes))
        return [tir.bind(op.bitwise_and(half, mask)) for half in (word, upper)]

    def _count(self, table: Expr, x: Expr, w: Expr) -> Expr:
        width = 4 * self.lanes
        different = tir.reinterpret(f"int8x{width}", tir.tirx.op.bitwise_xor(x, w))
        return tir.reinterpret(f"uint8x{width}", tir.intrin(f"int8x{width}", self.shuffle, table, different))

    def _add_up(self, acc: Expr, counts: Expr) -> Expr:
        """acc plus the four bytes of each lane."""
        lanes = self.lanes
        ones = tir.broadcast(tir.const(1, "int8"), 4 * lanes)
        if self.dot:
            return tir.intrin(f"int32x{lanes}", self.dot, acc, counts, ones)
        pairs = tir.intrin(f"int16x{2 * lanes}", "llvm.x86.avx2.pmadd.ub.sw", counts, ones)
        words = tir.broadcast(tir.const(1, "int16"), 2 * lanes)
        return acc + tir.intrin(f"int32x{lanes}", "llvm.x86.avx2.pmadd.wd", pairs, words)

    def sign_bits(self, value: Expr) -> Expr:
        """The top bits of 32 bytes as one s32, the first byte's lowest."""
        return tir.intrin("int32", "llvm.x86.avx2.pmovmskb", tir.reinterpret("int8x32", value))
