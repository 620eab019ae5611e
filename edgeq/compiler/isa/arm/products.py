"""Inner products of Neon. Costs are instructions, which is what can be counted without the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.compiler.isa import narrow
from edgeq.compiler.isa.arm.names import AARCH64, NeonNames
from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Product, Run

LOOP = 3.0  # address, counter, branch


@dataclass(frozen=True)
class ChunkProduct(Product):
    """Rows are loaded `chunk` groups (one register) at a time.

    Attributes:
        chunk: groups of one load and of one pass of the loop.
        row_register: what a loaded row is seen as.
        names: of the architecture's instructions.
    """

    chunk: int = 4
    row_register: str = "int8x16"
    names: NeonNames = AARCH64

    def tile_cost(self, rows: int, vectors: int) -> float:
        # Two registers are narrowed together in ten instructions, a single one takes nine.
        return 12.0 + 2.0 * vectors + rows * (10.0 * (vectors // 2) + 9.0 * (vectors % 2))

    def accumulate(self, run: Run) -> None:
        whole, rest = divmod(run.groups, self.chunk)
        if whole == 1:
            self._chunk(run, 0, self.chunk)
        elif whole:
            with tir.T.serial(0, whole + run.zero) as chunk:
                self._chunk(run, chunk * self.chunk, self.chunk)
        if rest:
            self._chunk(run, whole * self.chunk, rest)

    def _chunk(self, run: Run, first: Any, groups: int) -> None:
        rows = [tir.bind(self.row(run, row, first)) for row in range(run.rows)]
        for group in range(groups):
            self.step(run, first + group, group, rows)

    def row(self, run: Run, row: int, first: Any) -> Expr:
        """One row's activations from group `first` on, a register full."""
        index = run.x_index(row) + first * self.group
        if self.row_register != "int8x16":
            return tir.vload(run.x, index, 8)
        x = tir.vload(run.x, index, 16)
        if self.flips:
            x = tir.tirx.op.bitwise_xor(x, tir.broadcast(tir.const(128, "uint8"), 16))
        return tir.reinterpret(self.row_register, x)

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        """Emits one group of every row and column; `lane` says which part of the loaded rows it is."""
        raise NotImplementedError

    def group_weights(self, run: Run, group: Any, lane: int, vector: int) -> Expr:
        """The s8 weights of one group and register, expanded where they are packed; chunks are whole bytes."""
        per = self.per_byte
        first = group - lane
        index = first // per if isinstance(first, int) else tir.tirx.op.truncdiv(first, tir.const(per))
        packed = self.packed_at(run, index + lane // per if per > 1 else group, vector)
        return tir.bind(self.expanded(packed, lane % per))


@dataclass(frozen=True)
class DotLane(ChunkProduct):
    """sdot by lane: four s8 products into each s32."""

    @property
    def packings(self) -> tuple[int, ...]:
        return (4, 2)

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + rows + vectors <= self.registers - 1

    def step_cost(self, rows: int, vectors: int) -> float:
        return rows * vectors + rows / 4 + vectors / 2 + LOOP / 4

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = [self.group_weights(run, group, lane, v) for v in range(run.vectors)]
        for row, x in enumerate(rows):
            # Weights come first: LLVM then finds the by-element form for the repeated lane.
            repeated = tir.reinterpret("int8x16", tir.shuffle([tir.reinterpret("int32x4", x)], [lane] * 4))
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
                run.store(place, tir.intrin("int32x4", name, run.load(place), w, repeated))


@dataclass(frozen=True)
class PairLane(ChunkProduct):
    """smull, smlal, sadalp: two s8 products fit 16 bits because weights are −127 … 127 (2·128·127 = 32512).

    Weights of a register lie as a pair of k for each of four columns, then the next pair. With a `lowest_weight` of
    −128 each product is widened by itself: one instruction more.

    Attributes:
        spare: registers for products and widened operands.
    """

    spare: int = 8

    @property
    def unit(self) -> int:
        return 2

    @property
    def packings(self) -> tuple[int, ...]:
        return (4, 2)

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + rows + vectors <= self.registers - self.spare

    def step_cost(self, rows: int, vectors: int) -> float:
        return (3 if self.lowest_weight > -128 else 4) * rows * vectors + 2.25 * rows + vectors + LOOP / 4

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = [self.halves(run, group, lane, vector) for vector in range(run.vectors)]
        for row, x in enumerate(rows):
            repeated = self.repeated(x, lane)
            for vector, own in enumerate(weights):
                place = row * run.vectors + vector
                parts = [self.names.multiply8(pair, w) for pair, w in zip(repeated, own, strict=True)]
                if self.lowest_weight > -128:
                    parts = [parts[0] + parts[1]]
                for part in parts:
                    run.store(place, self.names.add_pairs(run.load(place), part))

    def halves(self, run: Run, group: Any, lane: int, vector: int) -> list[Expr]:
        """Four columns' weights of a group: the first pair of k, the second."""
        if self.bits == 8:
            start = run.w_index + (group * run.vectors + vector) * 16
            return [tir.bind(tir.vload(run.w, start + half, 8)) for half in (0, 8)]
        whole = self.group_weights(run, group, lane, vector)
        return [tir.bind(tir.shuffle([whole], range(half, half + 8))) for half in (0, 8)]

    def repeated(self, x: Expr, lane: int) -> list[Expr]:
        """The two pairs of activations of a group, each four times."""
        pairs = tir.reinterpret("int16x8", x)
        return [tir.bind(tir.reinterpret("int8x8", tir.shuffle([pairs], [at] * 4))) for at in (2 * lane, 2 * lane + 1)]


@dataclass(frozen=True)
class BoundedPairs(PairLane):
    """smull, smlal … and one sadalp for `depth` groups, 2 or 4, whose weights keep the sums inside 16 bits.

    A row goes through a window at a time, so that the sums of its registers are all that lives beside weights.
    """

    @property
    def bounded(self) -> bool:
        return True

    def depths(self, groups: int) -> tuple[int, ...]:
        return (4, 2)

    def safe_depth(self, weights: IntArray, depths: Sequence[int]) -> int:
        by_lane = weights.reshape(*weights.shape[:-1], 2, 2).swapaxes(-1, -2)
        return narrow.safe_depth(by_lane, -128, 127, depths)

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + (self.depth + 1) * vectors + 4 <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        return (2 + 1 / max(self.depth, 1)) * rows * vectors + 2.25 * rows + vectors + LOOP / 4

    def _chunk(self, run: Run, first: Any, groups: int) -> None:
        for start in range(0, groups, self.depth):
            window = range(start, min(start + self.depth, groups))
            weights = [[self.halves(run, first + g, g, vector) for g in window] for vector in range(run.vectors)]
            for row in range(run.rows):
                x = tir.bind(self.row(run, row, first))
                repeated = [self.repeated(x, g) for g in window]
                for vector, own in enumerate(weights):
                    total = None
                    for pairs, halves in zip(repeated, own, strict=True):
                        for pair, w in zip(pairs, halves, strict=True):
                            product = self.names.multiply8(pair, w)
                            total = product if total is None else total + product
                    place = row * run.vectors + vector
                    run.store(place, self.names.add_pairs(run.load(place), total))


@dataclass(frozen=True)
class ColumnSums(ChunkProduct):
    """smull, smlal2, sadalp along K: 16 k of one row and one column a step, no lane is ever repeated.

    Every result has a register of four partial sums, added up at the end; two products fit 16 bits as in PairLane.
    """

    chunk: int = 1
    spread: int = 4

    def fits(self, rows: int, vectors: int) -> bool:
        return 4 * rows * vectors <= self.registers - 12

    def step_cost(self, rows: int, vectors: int) -> float:
        return 12 * rows * vectors + rows + 2 * vectors + LOOP

    def tile_cost(self, rows: int, vectors: int) -> float:
        return super().tile_cost(rows, vectors) + 8.0 * rows * vectors

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        for vector in range(run.vectors):
            for column in range(4):
                start = run.w_index + ((group * run.vectors + vector) * 4 + column) * 16
                w = tir.bind(tir.vload(run.w, start, 16))
                for row, x in enumerate(rows):
                    low, high = (
                        self.names.multiply8(*(tir.shuffle([v], range(at, at + 8)) for v in (x, w))) for at in (0, 8)
                    )
                    place = (row * run.vectors + vector) * 4 + column
                    run.store(place, self.names.add_pairs(run.load(place), low + high))

    def collect(self, accumulators: Sequence[Expr]) -> Expr:
        a, b, c, d = accumulators
        name = "llvm.aarch64.neon.addp.v4i32"
        return tir.intrin("int32x4", name, tir.intrin("int32x4", name, a, b), tir.intrin("int32x4", name, c, d))


@dataclass(frozen=True)
class WideLane(ChunkProduct):
    """smlal by lane: s16 activations times widened weights."""

    chunk: int = 8
    row_register: str = "int16x8"

    def fits(self, rows: int, vectors: int) -> bool:
        return rows * vectors + rows + vectors <= self.registers - 4

    def step_cost(self, rows: int, vectors: int) -> float:
        return rows * vectors + rows / 8 + 2 * vectors + LOOP / 8

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = [tir.bind(tir.cast("int16x4", self.weights_at(run, group, v))) for v in range(run.vectors)]
        for row, x in enumerate(rows):
            repeated = tir.shuffle([x], [lane] * 4)
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                run.store(place, run.load(place) + self.names.multiply16(w, repeated))
