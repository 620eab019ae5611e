"""The depthwise product of any processor, and of vectors whose instructions LLVM chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.kernels.base import DType
from edgeq.compiler.kernels.depthwise.products import DepthwiseProduct, Expr, Sums, WordSums


@dataclass(frozen=True)
class Plain(WordSums):
    """Any processor: one tap at a time, multiplied lane by lane in types that LLVM knows.

    Attributes:
        dtype: activations as stored.
        lanes: s32 lanes of a register.
        registers: accumulators to keep.
        long_multiply: products of bytes are s16 before they are added (their size allows it: 128 · 128 = 2^14).
    """

    dtype: DType
    lanes: int
    registers: int
    long_multiply: bool = False
    group: int = 1
    shares_rows: bool = False
    lowest_weight: int = -128
    sums: Sums = "any"

    @property
    def widths(self) -> tuple[int, ...]:
        return (2 * self.lanes, self.lanes)

    @property
    def weight_dtype(self) -> DType:
        return "s16" if self.dtype == "s16" else "s8"

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        return self

    def channels(self, width: int) -> np.ndarray:
        return np.arange(width)

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        return taps[:, order.reshape(-1)].astype(np.int16 if self.dtype == "s16" else np.int8).reshape(-1)

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        return [tir.bind(tap) for tap in taps if tap is not None]

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        narrow = "int16" if self.long_multiply and self.dtype == "s8" else "int32"
        result, lanes = list(accs), self.lanes
        for k, x in enumerate(operands):
            for register in range(len(accs)):
                start = register * lanes
                part = x if len(accs) == 1 else tir.shuffle([x], range(start, start + lanes))
                w = tir.vload(weights, index + (k * len(accs) + register) * lanes, lanes)
                product = tir.cast(f"{narrow}x{lanes}", part) * tir.cast(f"{narrow}x{lanes}", w)
                wide = product if narrow == "int32" else tir.cast(f"int32x{lanes}", product)
                result[register] = tir.bind(result[register] + wide)
        return result
