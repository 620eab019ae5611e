"""The depthwise product with the smallest code: one multiply-accumulate a channel and tap, one register of sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.compiler.kernels.base import DType
from edgeq.compiler.kernels.depthwise.products import DepthwiseProduct, Expr, Sums, WordSums


@dataclass(frozen=True)
class PlainTaps(WordSums):
    """Channels in their order, products in 32 bits: exact for all activations and weights.

    Attributes:
        dtype: activations as stored.
    """

    dtype: DType
    registers: int = 1
    lanes: int = 4
    group: int = 1
    shares_rows: bool = False
    lowest_weight: int = -128
    weight_dtype: DType = "s8"
    sums: Sums = "any"

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.lanes,)

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        return self

    def channels(self, width: int) -> np.ndarray:
        return np.arange(width)

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        return taps[:, order.reshape(-1)].astype(np.int8).reshape(-1)

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        return [tir.bind(tir.cast(f"int32x{width}", tap)) for tap in taps if tap is not None]

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        factor = tir.cast(f"int32x{self.lanes}", tir.vload(weights, index, self.lanes))
        return [tir.bind(accs[0] + operands[0] * factor)]
