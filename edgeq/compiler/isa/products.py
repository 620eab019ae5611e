"""Inner products of matrix-like kernels: rows of activations times packed weight columns, summed into s32 registers.

A product names how weights lie in memory and emits the multiply-accumulate loop of one *run*: K elements that are
contiguous in every row. Weights of a run are [groups][vectors][lanes][group] bytes, K padded to whole groups with
zeros, so that activations read behind a run don't count. `targets/<name>/inner.py` lists a target's products; a plan
takes the one with the lowest cost for its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from edgeq.compiler.isa import narrow
from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir

UNROLLED_GROUPS = 4  # shorter runs are written out
_Self = TypeVar("_Self", bound="Product")


@dataclass(frozen=True)
class Run:
    """Operands of one run.

    Attributes:
        acc: local array of the tile's accumulators (`Product.initial`), s32 registers.
        x, x_index: activations; x_index(row) is the element where the row's run starts.
        w, w_index: weights of the block; the run starts at w_index.
        groups: K groups of the run.
        zero: a 0 that LLVM can't see through. A loop whose count it is added to is neither written out nor are its
            weights loaded once for all tiles, which would push accumulators out of the registers.
    """

    acc: Expr
    rows: int
    vectors: int
    x: Expr
    x_index: Callable[[int], Expr]
    w: Expr
    w_index: Expr | int
    groups: int
    zero: Expr

    def load(self, place: int) -> Expr:
        """The accumulator with this number."""
        return tir.load(self.acc, place)

    def store(self, place: int, value: Expr) -> None:
        """Sets the accumulator with this number."""
        tir.store(self.acc, place, value)


@dataclass(frozen=True)
class Product:
    """How one instruction set multiplies.

    Attributes:
        x_dtype: activations as they are stored.
        group: K elements one step multiplies and adds.
        lanes: columns of one register.
        registers: vector registers there are.
        widest: most registers side by side in a tile of several rows; twice as many for a single row.
        overhead: registers a step needs beside accumulators and one row of weights.
        flips: x is stored with the other signedness than the instruction wants; its top bit is inverted when read.
        stages: activations are widened to s16 in scratch memory first.
        lowest_weight: weights below it would overflow an intermediate.
        spread: accumulators per register of results; `collect` adds them up.
        depth: groups whose products are summed in 16 bits before they are widened, of a product that is `bounded`.
        bits: of a weight in memory: 8, or one of `packings`.
    """

    x_dtype: str
    group: int
    lanes: int
    registers: int
    widest: int = 4
    overhead: int = 1
    flips: bool = False
    stages: bool = False
    lowest_weight: int = -128
    spread: int = 1
    depth: int = 0
    bits: int = 8

    @property
    def bounded(self) -> bool:
        """Whether it is exact only for weights whose sums over `depth` groups stay small (isa/narrow.py)."""
        return False

    @property
    def packings(self) -> tuple[int, ...]:
        """Bits of a weight, below 8, that it can expand while it runs."""
        return ()

    @property
    def per_byte(self) -> int:
        """Groups that share a byte."""
        return 8 // self.bits

    def depths(self, groups: int) -> tuple[int, ...]:
        """Values of `depth` to try for runs of this many groups, longest first: windows of the same length, whole bytes
        of packed weights."""
        per = self.per_byte
        windows = dict.fromkeys(-(-groups // depth) for depth in (narrow.LONGEST, *narrow.DEPTHS))
        even = (-(-groups // (count * per)) * per for count in windows)
        return tuple(dict.fromkeys(min(depth, groups) for depth in even))

    def safe_depth(self, weights: IntArray, depths: Sequence[int]) -> int:
        """The first of `depths` that is safe for weights int8 [columns, runs, groups, group], 0: none."""
        raise NotImplementedError

    def depth_of_mass(self, mass: Callable[[int], int], largest: int, depths: Sequence[int]) -> int:
        """As `safe_depth`, for computed weights of magnitude `largest` or less and activations from 0 on of which any
        n add up to mass(n) or less; 0: none."""
        return 0

    def with_depth(self: _Self, depth: int) -> _Self:
        """The same product summing this many groups in 16 bits."""
        return replace(self, depth=depth) if self.bounded else self

    @property
    def whole(self) -> bool:
        """Whether `accumulate` takes all runs of K at once, and `pack_layer` packs."""
        return False

    @property
    def counts(self) -> bool:
        """Whether `results` are counts, of which a sum is so many times a number of its column less than its start."""
        return False

    @property
    def peer_depth(self) -> int:
        """Of a product that is `whole`: the depth of the bounded product that its steps come closest to."""
        return self.depth

    def planned(self: _Self, depth: int, steps: tuple[int, ...]) -> _Self | None:
        """The same product for weights that allow this `depth`, or an arrangement (isa/x86/pairing.py); None: it is not
        exact for them."""
        return self.with_depth(depth) if depth or not self.bounded else None

    def steps_for(self, weights: IntArray) -> tuple[int, ...]:
        """What `planned` has to know where the product arranges weights, int8 [columns, runs, groups, group]; (): it
        doesn't."""
        return ()

    def run_steps(self, groups: int) -> int:
        """Steps of a run of this many groups, for its cost."""
        return groups

    def misfit(self, weights: IntArray) -> str | None:
        """Why the product is not exact for these weights, int8 [columns, runs, groups, group]; None: it is."""
        if not self.bounded or (self.depth and self.safe_depth(weights, (self.depth,))):
            return None
        return f"{self.depth} groups of {self.group} can pass them"

    def with_bits(self: _Self, bits: int) -> _Self:
        """The same product reading packed weights."""
        return replace(self, bits=bits)

    @property
    def words(self) -> bool:
        """Whether it multiplies s16 by s16: weights may then lie in memory as s16 (`with_word_weights`)."""
        return self.stages or self.x_dtype == "s16"

    @property
    def unit(self) -> int:
        """K elements of one column that lie side by side in packed weights: the group, or a part of it."""
        return self.group

    def with_word_weights(self) -> Product:
        """The same product reading weights that are s16 already; only where `words`."""
        return self

    def centred_form(self: _Self) -> _Self | None:
        """The same product whose windows of constant weights sum centred activations, which can be longer; None: it has
        none."""
        return None

    @property
    def x_offset(self) -> int:
        """What its sums have taken off every activation; the bias has to give it back."""
        return 0

    def fits(self, rows: int, vectors: int) -> bool:
        """Whether a tile stays in registers."""
        return rows * vectors + vectors + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        """Time of one step of a tile; comparable between the products of a target."""
        raise NotImplementedError

    def tile_cost(self, rows: int, vectors: int) -> float:
        """Time a tile takes beside its steps, in the same unit: addresses, bias, epilogue."""
        raise NotImplementedError

    def pack(self, weights: IntArray) -> IntArray:
        """Weights of one run and block, int8 [groups, vectors, lanes, group] -> bytes as the loop reads them: [groups,
        vectors, units of a group, lanes, unit], `per_byte` groups in each byte."""
        groups, vectors, lanes, group = weights.shape
        units = weights.reshape(groups, vectors, lanes, group // self.unit, self.unit).transpose(0, 1, 3, 2, 4)
        return narrow.pack(np.ascontiguousarray(units).reshape(groups, -1), self.bits)

    def pack_layer(
        self, weights: IntArray, lanes: IntArray, blocks: list[tuple[int, int]], places: IntArray
    ) -> IntArray:
        """Weights of all blocks of a product that is `whole`.

        Args:
            weights: int8 [channels, runs, groups, group], by channel; lanes: the same in the order of lanes.
            blocks: (first lane, registers) of each.
            places: int [runs · groups], the element of x where each group begins.
        """
        raise NotImplementedError

    def run_bytes(self, groups: int, vectors: int) -> int:
        """Bytes of the packed weights of one run and one block."""
        return -(-groups // self.per_byte) * vectors * self.lanes * self.group

    def accumulate(self, run: Run) -> None:
        """Emits the loop over a run's groups."""
        raise NotImplementedError

    def initial(self, starts: Sequence[Sequence[Expr]]) -> list[Expr]:
        """What a tile's accumulators hold at first, in the order in which `accumulate` numbers them.

        Args:
            starts: [row][vector], s32 registers that the sums are to be added to.
        """
        if self.spread == 1:
            return [start for row in starts for start in row]
        zero = tir.broadcast(tir.const(0), self.lanes)  # partial sums get the start when they are added up
        return [zero] * (len(starts) * len(starts[0]) * self.spread)

    def results(self, accumulators: Sequence[Expr], starts: Sequence[Sequence[Expr]]) -> list[list[Expr]]:
        """[row][vector] of finished sums, one a lane, from the accumulators behind the last run."""
        values = iter(accumulators)
        if self.spread == 1:
            return [[next(values) for _ in row] for row in starts]
        return [[self.collect([next(values) for _ in range(self.spread)]) + start for start in row] for row in starts]

    def word_sums(self, accumulators: Sequence[Expr], rows: int, vectors: int) -> list[list[Expr]]:
        """[row] of finished sums of a product that keeps them in 16 bits: s16 registers, columns in their order."""
        raise NotImplementedError

    def collect(self, accumulators: Sequence[Expr]) -> Expr:
        """`spread` accumulators of one register -> sums, one a lane."""
        return accumulators[0]

    def weights_at(self, run: Run, group: Any, vector: int) -> Expr:
        """The bytes of one group and one register of columns; of `per_byte` groups where they are packed."""
        size = self.lanes * self.group
        return tir.vload(run.w, run.w_index + (group * run.vectors + vector) * size, size)

    def expanded(self, packed: Expr, part: int) -> Expr:
        """What `weights_at` read as the s8 weights of its group number `part`."""
        return packed if self.bits == 8 else narrow.unpack(packed, self.bits, part)

    def packed_at(self, run: Run, index: Any, vector: int) -> Expr:
        """`weights_at`, ready for `expanded`."""
        loaded = self.weights_at(run, index, vector)
        if self.bits == 8:
            return loaded
        return tir.bind(tir.reinterpret(f"uint8x{self.lanes * self.group}", loaded))


class SteppedProduct(Product):
    """A product that does the same for every group of a run."""

    def accumulate(self, run: Run) -> None:
        if run.groups <= UNROLLED_GROUPS:
            for group in range(run.groups):
                self.step(run, group)
            return
        with tir.T.serial(0, run.groups + run.zero) as group:
            self.step(run, group)

    def step(self, run: Run, group: Any) -> None:
        """Emits the multiply-accumulates of one group, for all rows and vectors of the tile."""
        raise NotImplementedError
