"""Inner products of WebAssembly: i32x4.dot_i16x8_s everywhere, and relaxed SIMD's on Arm."""

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


# Two s16 products a lane. Sixteen registers: what engines have on x86, where most of these modules run.
WORDS = BroadcastProduct(
    "s16",
    group=2,
    lanes=4,
    registers=16,
    widest=4,
    overhead=2,
    intrinsic="llvm.wasm.dot",
    accumulates=False,
    wide_weights=True,
)
