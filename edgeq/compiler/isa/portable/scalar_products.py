"""The inner product that every processor has: one multiply-accumulate a lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Run, SteppedProduct


@dataclass(frozen=True)
class LaneProduct(SteppedProduct):
    """One activation times a register of columns, in 32 bits: exact for all activations and weights."""

    widest: int = 1

    @property
    def words(self) -> bool:
        """Weights stay bytes: a load widens them for nothing."""
        return False

    def step_cost(self, rows: int, vectors: int) -> float:
        return self.lanes * rows * vectors + self.lanes * vectors + rows + 3.0

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 12.0 + 10.0 * self.lanes * rows * vectors

    def step(self, run: Run, group: Any) -> None:
        wide = f"int32x{self.lanes}"
        weights = [tir.bind(tir.cast(wide, self.weights_at(run, group, v))) for v in range(run.vectors)]
        for row in range(run.rows):
            value = tir.load(run.x, run.x_index(row) + group)
            if self.flips:
                value = tir.tirx.op.bitwise_xor(value, tir.const(128, "uint8"))
                value = tir.reinterpret("int8", value)
            x = tir.bind(tir.broadcast(tir.cast("int32", value), self.lanes))
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                run.store(place, run.load(place) + x * w)
