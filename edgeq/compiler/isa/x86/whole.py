"""Products of narrow weights whose sums over all of K stay in 16 bits: nothing is widened, nor is the epilogue.

pmaddubsw leaves k0·w0 + k1·w1 of a group of four in even 16-bit lanes and k2·w2 + k3·w3 in odd ones. Two registers hold
sixteen columns: in the first, column 2j has the even and column 2j + 1 the odd lane of pair j; in the second they have
changed places, so that its lanes, swapped once at the end, complete the first's. No pmaddwd and no sum in 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.isa import byte_dot, narrow
from edgeq.compiler.isa.base import Expr, IntArray
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.products import Run, SteppedProduct
from edgeq.compiler.isa.x86.products import broadcast_group


@dataclass(frozen=True)
class WholeBytes(SteppedProduct):
    """u8 by s8 in 16-bit sums over all of K; results are s16 registers, columns in their order.

    Attributes:
        pace: time of one instruction in units of the target's other products.
        dot: the processor's instructions.
    """

    pace: float = 0.46
    dot: byte_dot.ByteDot = byte_dot.X86

    @property
    def bounded(self) -> bool:
        return True

    def misfit(self, weights: IntArray) -> str | None:
        if narrow.safe_depth(weights.reshape(len(weights), 1, 1, -1), 0, 255, (1,)):
            return None
        return "a column's sum can pass them"

    def step_cost(self, rows: int, vectors: int) -> float:
        return self.pace * rows * vectors * 2.0 + 0.25 * (rows + vectors) + 0.5

    def tile_cost(self, rows: int, vectors: int) -> float:
        return 8.0 + 2.2 * rows * vectors

    def pack(self, weights: IntArray) -> IntArray:
        """[groups, registers, lanes, 4] by column -> two orders of every sixteen columns, or of the last eight."""
        groups, vectors, lanes, _ = weights.shape
        columns = weights.reshape(groups, vectors * lanes // 2, 2, 2, 2)  # pair of columns, column, pair of k, k
        first = columns[:, :, [0, 1], [0, 1]]
        second = columns[:, :, [1, 0], [0, 1]]
        parts = []
        for start in range(0, vectors * lanes // 2, lanes):
            parts += [order[:, start : start + lanes].reshape(groups, -1) for order in (first, second)]
        return np.ascontiguousarray(np.concatenate(parts, 1))

    def step(self, run: Run, group: Expr) -> None:
        size = self.lanes * self.group
        weights = [tir.bind(self.weights_at(run, group, vector)) for vector in range(run.vectors)]
        for row in range(run.rows):
            x = broadcast_group(self, run, row, group)
            for vector, w in enumerate(weights):
                place = row * run.vectors + vector
                before = tir.reinterpret(f"int16x{size // 2}", run.load(place))
                run.store(place, tir.reinterpret(f"int32x{self.lanes}", before + self.dot.multiply(x, w)))

    def word_sums(self, accumulators: Sequence[Expr], rows: int, vectors: int) -> list[list[Expr]]:
        words = 2 * self.lanes  # the last register may have eight
        found = []
        for row in range(rows):
            own = [
                tir.bind(tir.reinterpret(f"int16x{words}", value))
                for value in accumulators[row * vectors : (row + 1) * vectors]
            ]
            registers = []
            for first in range(0, vectors - 1, 2):
                swapped = tir.shuffle([own[first + 1]], [lane ^ 1 for lane in range(words)])
                registers.append(tir.bind(own[first] + swapped))
            if vectors % 2:
                low = tir.shuffle([own[-1]], range(self.lanes))
                high = tir.shuffle([own[-1]], [self.lanes + (lane ^ 1) for lane in range(self.lanes)])
                registers.append(tir.bind(low + high))
            found.append(registers)
        return found
