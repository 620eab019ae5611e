"""Inner products for any processor: one activation in every lane times a register of widened weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Run, SteppedProduct


@dataclass(frozen=True)
class SplatProduct(SteppedProduct):
    """acc += x in every lane · w, one k a step.

    Attributes:
        group: 1.
        parts: machine registers of one s32 register: 4 where four lanes are four scalars.
        long_multiply: s16 × s16 → s32 is one instruction, so operands are widened to s16 only.
    """

    parts: int = 1
    long_multiply: bool = False

    def fits(self, rows: int, vectors: int) -> bool:
        return self.parts * (rows * vectors + vectors) + rows + self.overhead <= self.registers

    def step_cost(self, rows: int, vectors: int) -> float:
        multiply = self.parts * rows * vectors * (1.0 if self.long_multiply else 2.0)
        return multiply + 2.0 * self.parts * vectors + rows + 1.0

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 12.0 * self.parts * rows * vectors

    def step(self, run: Run, group: Any) -> None:
        wide = f"int32x{self.lanes}"
        operand = "int16" if self.long_multiply else "int32"
        weights = [
            tir.bind(tir.cast(f"{operand}x{self.lanes}", self.weights_at(run, group, v))) for v in range(run.vectors)
        ]
        for row in range(run.rows):
            scalar = tir.cast(operand, tir.load(run.x, run.x_index(row) + group))
            x = tir.bind(tir.broadcast(scalar, self.lanes))
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                run.store(place, run.load(place) + _widened(wide, x) * _widened(wide, w))


def _widened(dtype: str, value: Expr) -> Expr:
    return value if str(value.ty.dtype) == dtype else tir.cast(dtype, value)
