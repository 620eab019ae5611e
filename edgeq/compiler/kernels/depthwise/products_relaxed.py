"""Depthwise product of relaxed WebAssembly on Arm: four interleaved taps a lane."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.compiler.kernels.base import SYMMETRIC_LOWEST
from edgeq.compiler.kernels.depthwise.products import DepthwiseProduct, Expr, Interleaved


@dataclass(frozen=True)
class RelaxedQuads(Interleaved):
    """i32x4.relaxed_dot_i8x16_i7x16_add_s of engines that take both operands as s8.

    Two products may be added in 16 bits on the way, so a weight of −128 needs `wide`.

    Attributes:
        wide: product for layers with such weights.
    """

    wide: DepthwiseProduct | None = None

    @property
    def lowest_weight(self) -> int:
        return SYMMETRIC_LOWEST

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        return self if lowest_weight >= self.lowest_weight or self.wide is None else self.wide

    def _dot(self, acc: Expr, operand: Expr, factor: Expr) -> Expr:
        from edgeq.compiler.kernels import tir

        return tir.bind(tir.intrin(f"int32x{self.lanes}", self.dot, factor, operand, acc))
