"""Inner products of x86-64: a group of activations fills 32 bits and is broadcast to every column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.compiler.isa import byte_dot, narrow
from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import UNROLLED_GROUPS, Product, Run

_SHORT = 6  # groups of a window during which accumulators keep their registers
_SPILLS = 4
_WRITTEN_OUT = 8  # groups of a window without a loop of its own
_CENTRE = 128  # what long windows take off their activations
_CHAIN = 4.0  # cycles from one accumulation to the next in the same register


@dataclass(frozen=True)
class BroadcastProduct(Product):
    """vpdpbusd (group 4, bytes), vpdpwssd and pmaddwd (group 2, s16).

    Attributes:
        intrinsic: LLVM's name.
        accumulates: the intrinsic takes the accumulator as its first argument; else an addition follows.
        wide_weights: weights are widened to s16 when they are read.
    """

    intrinsic: str = ""
    accumulates: bool = True
    wide_weights: bool = False

    def with_word_weights(self) -> BroadcastProduct:
        return replace(self, wide_weights=False)

    def step_cost(self, rows: int, vectors: int) -> float:
        # Two loads a cycle, and one to two products; what doesn't overlap is put at a tenth.
        loads = 0.5 * (rows + vectors)
        return max(rows * vectors, loads, _CHAIN) + 0.1 * loads + 0.5

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 4.0 * rows * vectors

    @property
    def packings(self) -> tuple[int, ...]:
        return () if self.wide_weights or self.group != 4 else (4, 2, 1)

    def accumulate(self, run: Run) -> None:
        chunks, rest = divmod(run.groups, self.per_byte)
        if run.groups <= UNROLLED_GROUPS:
            for chunk in range(chunks):
                self._chunk(run, chunk, self.per_byte)
        else:
            with tir.T.serial(0, chunks) as chunk:
                self._chunk(run, chunk, self.per_byte)
        if rest:
            self._chunk(run, chunks, rest)

    def _chunk(self, run: Run, chunk: Any, groups: int) -> None:
        """The groups that share bytes of weights."""
        width = self.lanes * self.group
        packed = [self.packed_at(run, chunk, v) for v in range(run.vectors)]
        for part in range(groups):
            weights = [self.expanded(w, part) for w in packed]
            if self.wide_weights:
                weights = [tir.cast(f"int16x{width}", w) for w in weights]
            self._step(run, chunk * self.per_byte + part, [tir.bind(w) for w in weights])

    def _step(self, run: Run, group: Any, weights: list[Expr]) -> None:
        for row in range(run.rows):
            x = broadcast_group(self, run, row, group)
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                run.store(place, self._multiply(run.load(place), x, w))

    def _multiply(self, acc: Expr, x: Expr, w: Expr) -> Expr:
        dtype = f"int32x{self.lanes}"
        if self.accumulates:
            return tir.intrin(dtype, self.intrinsic, acc, x, w)
        return acc + tir.intrin(dtype, self.intrinsic, x, w)


def broadcast_group(product: Product, run: Run, row: int, group: Any) -> Expr:
    """A group of one row's activations, 32 bits, repeated over a register."""
    width = product.lanes * product.group
    word = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + group * product.group, product.group))
    if product.flips:
        word = tir.tirx.op.bitwise_xor(word, tir.const(0x80808080 - 2**32))
    dtype = "int16" if product.group == 2 else "uint8"
    return tir.bind(tir.reinterpret(f"{dtype}x{width}", tir.broadcast(word, product.lanes)))


@dataclass(frozen=True)
class BytePairs(Product):
    """pmaddubsw: two u8 · s8 products in each 16-bit lane, `depth` groups of them before pmaddwd widens to s32.

    Instructions for 32 products: depth 1 has pmaddubsw, pmaddwd, paddd; depth d one pmaddubsw, (d − 1)/d paddw and 2/d.

    Additions of 16 bits wrap, so what counts is that the finished sum fits. A long window of constant weights starts
    from −128 · Σ w, a register in front of its weights: it ends as Σ (x − 128)·w, which fits while Σ |w| <= 255,
    where Σ x·w wants the positive and the negative weights to stay below 128 each. Single pairs have to be safe as they
    are: they saturate. The bias gives the rest back.

    Attributes:
        pace: time of one instruction in units of the target's other products.
        dot: the processor's instructions.
        centred: windows start from such registers.
    """

    pace: float = 0.46
    dot: byte_dot.ByteDot = byte_dot.X86
    centred: bool = False

    @property
    def bounded(self) -> bool:
        return True

    @property
    def packings(self) -> tuple[int, ...]:
        return (4, 2, 1)

    def depths(self, groups: int) -> tuple[int, ...]:
        # Code of a window of four keeps more in registers than there are: three run faster (ceiling.py, 6 bits).
        return tuple(d for d in super().depths(groups) if d != _SPILLS or groups == d or self.bits < 8)

    def centred_form(self) -> BytePairs:
        return replace(self, centred=True)

    def safe_depth(self, weights: IntArray, depths: Sequence[int]) -> int:
        lanes = weights.reshape(*weights.shape[:-1], 2, 2)
        if not self.centred:
            return narrow.safe_depth(lanes, 0, 255, depths)
        if not narrow.safe_depth(lanes, 0, 255, (1,)):  # a pair that saturates doesn't come back
            return 0
        return narrow.safe_depth(lanes, -_CENTRE, 255 - _CENTRE, [depth for depth in depths if depth > _WRITTEN_OUT])

    @property
    def x_offset(self) -> int:
        return _CENTRE if self.centred else 0

    def run_bytes(self, groups: int, vectors: int) -> int:
        starts = -(-groups // self.depth) if self.centred else 0
        return super().run_bytes(groups, vectors) + starts * vectors * self.lanes * self.group

    def pack(self, weights: IntArray) -> IntArray:
        packed = super().pack(weights)
        if not self.centred:
            return packed
        chunks = -(-self.depth // self.per_byte)  # a single window may end inside a byte
        parts = []
        for window in range(-(-len(weights) // self.depth)):
            own = weights[window * self.depth : (window + 1) * self.depth].astype(np.int64)
            starts = -_CENTRE * own.reshape(*own.shape[:-1], 2, 2).sum((0, -1))
            parts += [starts.astype(np.int16).view(np.int8).reshape(1, -1)]
            parts += [packed[window * chunks : (window + 1) * chunks].reshape(-1, parts[0].size)]
        return np.concatenate(parts)

    def depth_of_mass(self, mass: Callable[[int], int], largest: int, depths: Sequence[int]) -> int:
        if self.x_dtype != "u8":
            return 0
        # A lane sums two of a group's four; what its other products add up to has the same bound with either sign.
        return next((d for d in depths if mass(2 * d) * largest <= narrow.LIMITS[1]), 0)

    def fits(self, rows: int, vectors: int) -> bool:
        # 16-bit sums, weights, one row's activations, a product. In a short window the accumulators stay beside them;
        # in a long one they wait in memory. Of depth 1 the accumulators are all there is.
        if 1 < self.depth <= _SHORT:
            return 2 * rows * vectors + vectors + self.overhead - 1 <= self.registers
        return rows * vectors + vectors + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        d = max(self.depth, 1)
        instructions = 1 + (d - 1) / d + (2 if d <= _SHORT else 4) / d
        expanding = 0.0 if self.bits == 8 else 3.0 * vectors
        return self.pace * (rows * vectors * instructions + expanding) + 0.25 * (rows + vectors) + 0.5 / self.per_byte

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 4.0 * rows * vectors

    def accumulate(self, run: Run) -> None:
        # A window shorter than the run is whole chunks of groups that share bytes.
        depth = self.depth
        if depth >= run.groups:
            self._window(run, 0, run.groups)
            return
        windows, rest = divmod(run.groups, depth)
        if windows == 1:
            self._window(run, 0, depth)
        else:
            # Written out, the windows' sums would be alive together and some of them spilled inside the loops.
            with tir.T.serial(0, windows + run.zero) as window:
                self._window(run, window, depth)
        if rest:
            self._window(run, windows, rest)

    def _window(self, run: Run, window: Any, groups: int) -> None:
        """Sums `groups` groups in 16 bits and adds them to the accumulators."""
        per, places = self.per_byte, run.rows * run.vectors
        chunks, rest = divmod(groups, per)
        chunk = window * (self.depth // per)  # of x; of weights there is one more in front of each window
        before = window + 1 if self.centred else 0
        if groups <= _WRITTEN_OUT and not self.centred:
            sums: list[Expr | None] = [None] * places
            for number in range(chunks + (rest > 0)):
                count = per if number < chunks else rest
                for part, weights in enumerate(self._weights(run, chunk + number, count)):
                    self._step(run, (chunk + number) * per + part, weights, sums)
            self._widen(run, sums)
            return
        memory = tir.alloc(places, f"int16x{2 * self.lanes}")
        starts = [tir.broadcast(tir.const(0, "int16"), 2 * self.lanes)] * run.vectors
        if self.centred:
            ahead = [self.weights_at(run, chunk + window, v) for v in range(run.vectors)]
            starts = [tir.bind(tir.reinterpret(f"int16x{2 * self.lanes}", start)) for start in ahead]
        for place in range(places):
            tir.store(memory, place, starts[place % run.vectors])

        def some(number: Any, count: int) -> None:
            sums: list[Expr | None] = [tir.load(memory, place) for place in range(places)]
            for part, weights in enumerate(self._weights(run, number + before, count)):
                self._step(run, number * per + part, weights, sums)
            for place, value in enumerate(sums):
                tir.store(memory, place, value)

        with tir.T.serial(0, chunks) as number:
            some(chunk + number, per)
        if rest:
            some(chunk + chunks, rest)
        self._widen(run, [tir.load(memory, place) for place in range(places)])

    def _weights(self, run: Run, chunk: Any, groups: int) -> Iterator[list[Expr]]:
        packed = [self.packed_at(run, chunk, v) for v in range(run.vectors)]
        for part in range(groups):
            yield [tir.bind(self.expanded(w, part)) for w in packed]

    def _step(self, run: Run, group: Any, weights: list[Expr], sums: list[Expr | None]) -> None:
        for row in range(run.rows):
            x = broadcast_group(self, run, row, group)
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                product = self.dot.multiply(x, w)
                before = sums[place]
                sums[place] = tir.bind(product if before is None else before + product)

    def _widen(self, run: Run, sums: list[Expr | None]) -> None:
        for place, value in enumerate(sums):
            run.store(place, run.load(place) + self.dot.widen(value))
