"""Matrix products of aarch64's i8mm: smmla multiplies 2 × 8 by 8 × 2 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.compiler.isa.arm.products import LOOP, ChunkProduct
from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Run

_SMMLA = "llvm.aarch64.neon.smmla.v4i32.v16i8"


@dataclass(frozen=True)
class MatrixPair(ChunkProduct):
    """smmla: two rows by two columns, eight k at a time.

    An accumulator holds {row 0, row 1} × {column 0, column 1}; two of them make four columns of two rows, so that as
    many registers are needed as for sdot. A last odd row goes with itself and keeps half of what it computes.
    """

    chunk: int = 2

    def fits(self, rows: int, vectors: int) -> bool:
        return -(-rows // 2) * (2 * vectors + 2) + 2 * vectors <= self.registers - 1

    def step_cost(self, rows: int, vectors: int) -> float:
        pairs = -(-rows // 2)
        # Two registers of activations become two of pairs every second step; weights come two at a time.
        return 2.0 * pairs * vectors + rows / 2 + pairs + vectors + LOOP / 2

    def tile_cost(self, rows: int, vectors: int) -> float:
        return super().tile_cost(rows, vectors) + rows * vectors + 2.0 * vectors

    def initial(self, starts: Sequence[Sequence[Expr]]) -> list[Expr]:
        """[pair of rows][vector][half]."""
        result = []
        for upper, lower in _pairs(list(starts)):
            for a, b in zip(upper, lower, strict=True):
                result += _halves(a, b)
        return result

    def results(self, accumulators: Sequence[Expr], starts: Sequence[Sequence[Expr]]) -> list[list[Expr]]:
        vectors = len(starts[0])
        rows: list[list[Expr]] = []
        for first in range(0, len(accumulators), 2 * vectors):
            own = accumulators[first : first + 2 * vectors]
            both = [_halves(a, b) for a, b in zip(own[::2], own[1::2], strict=True)]
            rows += [[upper for upper, _ in both], [lower for _, lower in both]]
        return rows[: len(starts)]

    def _chunk(self, run: Run, first: Any, groups: int) -> None:
        rows = [tir.bind(self.row(run, row, first)) for row in range(run.rows)]
        # Eight bytes of two rows: the first halves of both registers for the first group, the second for the next.
        pairs = [
            [tir.bind(tir.shuffle([a, b], [*range(8 * g, 8 * g + 8), *range(16 + 8 * g, 24 + 8 * g)])) for a, b in two]
            for g in range(groups)
            for two in [_pairs(rows)]
        ]
        for group in range(groups):
            self.step(run, first + group, group, pairs[group])

    def step(self, run: Run, group: Any, lane: int, rows: list[Expr]) -> None:
        start = run.w_index + group * (32 * run.vectors)
        weights = [tir.bind(tir.vload(run.w, start + 16 * half, 16)) for half in range(2 * run.vectors)]
        for pair, x in enumerate(rows):
            for half, w in enumerate(weights):
                place = pair * len(weights) + half
                run.store(place, tir.intrin("int32x4", _SMMLA, run.load(place), x, w))


def _pairs(rows: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Neighbouring rows; an odd one out is its own neighbour."""
    return [(rows[i], rows[min(i + 1, len(rows) - 1)]) for i in range(0, len(rows), 2)]


def _halves(a: Expr, b: Expr) -> list[Expr]:
    """The lower halves of two s32 registers side by side, and the upper ones."""
    return [tir.bind(tir.shuffle([a, b], lanes)) for lanes in ([0, 1, 4, 5], [2, 3, 6, 7])]
