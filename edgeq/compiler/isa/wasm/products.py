"""Inner products of WebAssembly's relaxed SIMD on Arm."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.x86.products import BroadcastProduct


@dataclass(frozen=True)
class RelaxedDot(BroadcastProduct):
    """Four products of s8 added to each s32; the accumulator is the last argument."""

    def _multiply(self, acc: Expr, x: Expr, w: Expr) -> Expr:
        return tir.intrin(f"int32x{self.lanes}", self.intrinsic, w, x, acc)
