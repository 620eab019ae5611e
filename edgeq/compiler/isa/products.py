"""Inner products of matrix-like kernels: rows of activations times packed weight columns, summed into s32 registers.

A product names how weights lie in memory and emits the multiply-accumulate loop of one *run*: K elements that are
contiguous in every row. Weights of a run are [groups][vectors][lanes][group] bytes, K padded to whole groups with
zeros, so that activations read behind a run don't count. `targets/<name>/inner.py` lists a target's products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir

UNROLLED_GROUPS = 4  # shorter runs are written out


@dataclass(frozen=True)
class Run:
    """Operands of one run.

    Attributes:
        acc: local array of `rows · vectors` s32 registers, row after row.
        x, x_index: activations; x_index(row) is the element where the row's run starts.
        w, w_index: weights of the block; the run starts at w_index.
        groups: K groups of the run.
    """

    acc: Expr
    rows: int
    vectors: int
    x: Expr
    x_index: Callable[[int], Expr]
    w: Expr
    w_index: Expr | int
    groups: int

    def add(self, row: int, vector: int, value: Callable[[Expr], Expr]) -> None:
        """acc[row, vector] = value(acc[row, vector])."""
        place = row * self.vectors + vector
        tir.store(self.acc, place, value(tir.load(self.acc, place)))


@dataclass(frozen=True)
class Product:
    """How one instruction set multiplies.

    Attributes:
        x_dtype: what the loop reads.
        group: K elements one step multiplies and adds.
        lanes: columns of one register.
        widest: most registers side by side in a tile of several rows.
        registers: vector registers there are.
        overhead: registers a step needs beside accumulators and one row of weights.
        row_cost, weight_cost: load slots a step takes per row and per weight register, in units of one multiplication.
        flips: x is stored with the other signedness than the instruction wants; its top bit is inverted when read.
        stages: activations are widened to s16 in scratch memory first; x_dtype is what they are stored as.
        lowest_weight: weights below it would overflow an intermediate.
    """

    x_dtype: str
    group: int
    lanes: int
    registers: int
    widest: int = 4
    overhead: int = 1
    row_cost: float = 0.5
    weight_cost: float = 0.5
    chain: float = 4.0
    flips: bool = False
    stages: bool = False
    lowest_weight: int = -128

    def fits(self, rows: int, vectors: int) -> bool:
        """Whether a tile stays in registers."""
        return rows * vectors + vectors + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        """Relative time of one step of a tile."""
        loads = rows * self.row_cost + vectors * self.weight_cost
        return max(rows * vectors, loads, self.chain) + 0.1 * loads + 0.5

    def pack(self, weights: IntArray) -> IntArray:
        """Weights of one block, int8 [groups, vectors, lanes, group] -> the same bytes as the loop reads them."""
        return weights

    def accumulate(self, run: Run) -> None:
        """Emits the loop over a run's groups."""
        if run.groups <= UNROLLED_GROUPS:
            for group in range(run.groups):
                self.step(run, group)
            return
        with tir.T.serial(0, run.groups) as group:
            self.step(run, group)

    def step(self, run: Run, group: Any) -> None:
        """Emits one group of every row and column."""
        raise NotImplementedError

    def weights_at(self, run: Run, group: Any, vector: int) -> Expr:
        """The bytes of one group and one register of columns."""
        size = self.lanes * self.group
        return tir.vload(run.w, run.w_index + (group * run.vectors + vector) * size, size)


@dataclass(frozen=True)
class BroadcastProduct(Product):
    """x86: a group of activations fills 32 bits and is broadcast to every column.

    Attributes:
        intrinsic: vpdpbusd and the like (accumulates) or pmaddwd (doesn't).
        accumulates: the intrinsic takes the accumulator as its first argument.
    """

    intrinsic: str = ""
    accumulates: bool = True
    wide_weights: bool = False

    def step(self, run: Run, group: Any) -> None:
        lanes, width = self.lanes, self.lanes * self.group
        loop_dtype = "int16" if self.group == 2 else "uint8"
        weights = [self.weights_at(run, group, v) for v in range(run.vectors)]
        if self.wide_weights:
            weights = [tir.cast(f"int16x{width}", w) for w in weights]
        weights = [tir.bind(w) for w in weights]
        for row in range(run.rows):
            word = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + group * self.group, self.group))
            if self.flips and not self.stages:
                word = tir.tirx.op.bitwise_xor(word, tir.const(0x80808080 - 2**32))
            x = tir.bind(tir.reinterpret(f"{loop_dtype}x{width}", tir.broadcast(word, lanes)))
            for vector, w in enumerate(weights):
                run.add(row, vector, lambda acc, x=x, w=w: self._multiply(acc, x, w))

    def _multiply(self, acc: Expr, x: Expr, w: Expr) -> Expr:
        dtype = f"int32x{self.lanes}"
        if self.accumulates:
            return tir.intrin(dtype, self.intrinsic, acc, x, w)
        return acc + tir.intrin(dtype, self.intrinsic, x, w)


@dataclass(frozen=True)
class LaneProduct(Product):
    """Neon: 16 activations a row are loaded at once and used lane by lane; `chunk` groups make one load."""

    chunk: int = 4

    def accumulate(self, run: Run) -> None:
        whole, rest = divmod(run.groups, self.chunk)
        if whole == 1:
            self._chunk(run, 0, self.chunk)
        elif whole:
            with tir.T.serial(0, whole) as chunk:
                self._chunk(run, chunk * self.chunk, self.chunk)
        if rest:
            self._chunk(run, whole * self.chunk, rest)

    def _chunk(self, run: Run, first: Any, groups: int) -> None:
        elements = self.chunk * self.group
        rows = []
        for row in range(run.rows):
            x = tir.vload(run.x, run.x_index(row) + first * self.group, elements)
            if self.flips:
                x = tir.tirx.op.bitwise_xor(tir.reinterpret(f"uint8x{elements}", x), _top_bits(elements))
            rows.append(tir.bind(tir.reinterpret(self.register_dtype, x)))
        for group in range(groups):
            self.lane_step(run, first + group, group, rows)

    @property
    def register_dtype(self) -> str:
        """What a loaded row is seen as."""
        return "int8x16"

    def lane_step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        """Emits one group; `lane` says which part of the loaded rows it is."""
        raise NotImplementedError


def _top_bits(lanes: int) -> Expr:
    return tir.broadcast(tir.const(128, "uint8"), lanes)


@dataclass(frozen=True)
class DotLane(LaneProduct):
    """sdot by lane: four s8 products into each s32."""

    def lane_step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = [tir.bind(self.weights_at(run, group, v)) for v in range(run.vectors)]
        for row, x in enumerate(rows):
            # Weights come first: LLVM then finds the by-element form for the repeated lane.
            repeated = tir.reinterpret("int8x16", tir.shuffle([tir.reinterpret("int32x4", x)], [lane] * 4))
            for vector, w in enumerate(weights):
                run.add(
                    row,
                    vector,
                    lambda acc, w=w, x=repeated: tir.intrin("int32x4", "llvm.aarch64.neon.sdot.v4i32.v16i8", acc, w, x),
                )


@dataclass(frozen=True)
class PairLane(LaneProduct):
    """smull, smlal2, sadalp: two s8 products fit 16 bits because weights are −127 … 127 (2·128·127 = 32512).

    A weight register holds a pair of k for each of four columns in its low half and the next pair in its high half.
    """

    def pack(self, weights: IntArray) -> IntArray:
        groups, vectors, lanes, _ = weights.shape
        pairs = weights.reshape(groups, vectors, lanes, 2, 2)
        return np.ascontiguousarray(pairs.transpose(0, 1, 3, 2, 4)).reshape(weights.shape)

    def lane_step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = []
        for vector in range(run.vectors):
            w = tir.bind(self.weights_at(run, group, vector))
            weights.append([tir.bind(tir.shuffle([w], range(h * 8, h * 8 + 8))) for h in (0, 1)])
        for row, x in enumerate(rows):
            pairs = tir.reinterpret("int16x8", x)
            low, high = (tir.bind(tir.reinterpret("int8x8", tir.shuffle([pairs], [2 * lane + h] * 4))) for h in (0, 1))
            for vector, (w_low, w_high) in enumerate(weights):
                run.add(
                    row,
                    vector,
                    lambda acc, a=low, b=high, c=w_low, d=w_high: acc + _pair_products(a, b, c, d),
                )


def _pair_products(a: Expr, b: Expr, c: Expr, d: Expr) -> Expr:
    """a·c + b·d in s16, neighbours added to s32."""
    product = "llvm.aarch64.neon.smull.v8i16"
    both = tir.intrin("int16x8", product, a, c) + tir.intrin("int16x8", product, b, d)
    return tir.intrin("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", both)


@dataclass(frozen=True)
class WideLane(LaneProduct):
    """smlal by lane: s16 activations times widened weights."""

    @property
    def register_dtype(self) -> str:
        return "int16x8"

    def lane_step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        weights = [tir.bind(tir.cast("int16x4", self.weights_at(run, group, v))) for v in range(run.vectors)]
        for row, x in enumerate(rows):
            repeated = tir.shuffle([x], [lane] * 4)
            for vector, w in enumerate(weights):
                run.add(
                    row,
                    vector,
                    lambda acc, w=w, x=repeated: acc + tir.intrin("int32x4", "llvm.aarch64.neon.smull.v4i32", w, x),
                )
