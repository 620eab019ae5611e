"""Inner products of x86-64: a group of activations fills 32 bits and is broadcast to every column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import UNROLLED_GROUPS, Product, Run

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

    def accumulate(self, run: Run) -> None:
        if run.groups <= UNROLLED_GROUPS:
            for group in range(run.groups):
                self._step(run, group)
            return
        with tir.T.serial(0, run.groups) as group:
            self._step(run, group)

    def _step(self, run: Run, group: Any) -> None:
        width = self.lanes * self.group
        loop_dtype = "int16" if self.group == 2 else "uint8"
        weights = [self.weights_at(run, group, v) for v in range(run.vectors)]
        if self.wide_weights:
            weights = [tir.cast(f"int16x{width}", w) for w in weights]
        weights = [tir.bind(w) for w in weights]
        for row in range(run.rows):
            word = tir.reinterpret("int32", tir.vload(run.x, run.x_index(row) + group * self.group, self.group))
            if self.flips:
                word = tir.tirx.op.bitwise_xor(word, tir.const(0x80808080 - 2**32))
            x = tir.bind(tir.reinterpret(f"{loop_dtype}x{width}", tir.broadcast(word, self.lanes)))
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                run.store(place, self._multiply(run.load(place), x, w))

    def _multiply(self, acc: Expr, x: Expr, w: Expr) -> Expr:
        dtype = f"int32x{self.lanes}"
        if self.accumulates:
            return tir.intrin(dtype, self.intrinsic, acc, x, w)
        return acc + tir.intrin(dtype, self.intrinsic, x, w)
