"""Depthwise products on bytes (pmaddubsw) for layers whose weights keep its 16-bit sums exact (isa/narrow.py).

Two forms, by what the layer's weights allow (`DepthwiseSpec.sums`): pairs of taps in 16 bits and everything else in 32,
or all taps of a channel in 16 bits, widened once when the channel is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.isa import byte_dot
from edgeq.compiler.isa.base import lanes_of
from edgeq.compiler.kernels.base import DType
from edgeq.compiler.kernels.depthwise.products import Expr, Interleaved, Sums


def _eights(start: int, width: int) -> list[int]:
    """Eight channels of every sixteen, from `start` on."""
    return [k + i for k in range(start, width, 16) for i in range(8)]


@dataclass(frozen=True)
class ByteQuads(Interleaved):
    """Four taps a lane: pmaddubsw sums two pairs in 16 bits, pmaddwd with ones adds the two in 32."""

    dtype: DType = "u8"
    group: int = 4
    lanes: int = 8
    dot: str = ""
    accumulates: bool = False
    weights_first: bool = False
    registers: int = 8
    sums: Sums = "pairs"
    instructions: byte_dot.ByteDot = byte_dot.X86

    def _dot(self, acc: Expr, operand: Expr, factor: Expr) -> Expr:
        from edgeq.compiler.kernels import tir

        return tir.bind(acc + self.instructions.widen(self.instructions.multiply(operand, factor)))


@dataclass(frozen=True)
class ByteSums(Interleaved):
    """Two taps a 16-bit lane, accumulated there: twice `lanes` channels a register until the channel is finished.

    `registers` still counts s32 registers: two of them share one of 16-bit sums.
    """

    dtype: DType = "u8"
    group: int = 2
    lanes: int = 8
    dot: str = ""
    accumulates: bool = False
    weights_first: bool = False
    registers: int = 16
    sums: Sums = "taps"
    instructions: byte_dot.ByteDot = byte_dot.X86

    @property
    def words(self) -> int:
        """16-bit sums of a register."""
        return 2 * self.lanes

    @property
    def widths(self) -> tuple[int, ...]:
        # Eight channels fill the least register of bytes.
        return (4 * self.lanes, 2 * self.lanes) if self.lanes == 4 else (32, 16, 8)

    @property
    def weight_dtype(self) -> DType:
        return "s8"

    def channels(self, width: int) -> np.ndarray:
        if width <= self.words or self.lanes == 4:
            return np.arange(width)
        # Unpacks of bytes take eight channels of every 128-bit lane.
        halves: np.ndarray = np.arange(width).reshape(-1, 2, 8).swapaxes(0, 1)
        return halves.reshape(-1)

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        # Registers of 16-bit sums hold channels in the order of places; widening them makes the epilogue's order.
        return np.ascontiguousarray(taps.T.astype(np.int8)).reshape(-1)

    def start(self, biases: list[Expr], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        lanes = min(width, self.words)
        return [tir.broadcast(tir.const(0, "int16"), lanes)] * (width // lanes)

    def finish(self, sums: list[Expr], biases: list[Expr]) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        if len(biases) == 1:
            return [tir.bind(biases[0] + tir.cast(f"int32x{self.lanes}", sums[0]))]
        result = []
        for number, words in enumerate(sums):
            named = tir.bind(words)
            for half in (0, 4):
                if self.lanes == 4:
                    wide = tir.cast("int32x4", tir.shuffle([named], range(half, half + 4)))
                    result.append(tir.bind(biases[2 * number + half // 4] + wide))
                    continue
                # Each word twice, then the lower copy shifted out: what narrowing puts back in order.
                picks = [lane for k in (half, half + 8) for i in range(k, k + 4) for lane in (i, i)]
                wide = tir.reinterpret(f"int32x{self.lanes}", tir.shuffle([named], picks))
                shifted = tir.tirx.op.shift_right(wide, tir.broadcast(tir.const(16), self.lanes))
                result.append(tir.bind(biases[2 * number + half // 4] + shifted))
        return result

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        zero = tir.broadcast(tir.const(0, "uint8"), width)
        a, b = [tir.bind(zero if tap is None else tap) for tap in [*taps, None][:2]]
        if width <= self.words:
            return [tir.hold(tir.shuffle([a, b], [lane for k in range(width) for lane in (k, width + k)]))]
        return [
            tir.hold(tir.shuffle([a, b], [x for k in _eights(start, width) for x in (k, width + k)]))
            for start in (0, 8)
        ]

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        result = []
        for k, (acc, operand) in enumerate(zip(accs, operands, strict=True)):
            size = lanes_of(operand)
            factor = tir.vload(weights, index + k * size, size)
            result.append(tir.bind(acc + self.instructions.multiply(operand, factor)))
        return result
