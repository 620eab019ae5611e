"""LLVM's names of the Neon instructions that both Arm architectures have."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir


@dataclass(frozen=True)
class NeonNames:
    """Intrinsics without their types, which are spelled the same on both.

    Attributes:
        long_multiply: s8 × s8 → s16, s16 × s16 → s32, s32 × s32 → s64.
        narrow, narrow_unsigned: to half the width, saturated.
        multiply_high: (2·a·b + 2^(n−1)) >> n, saturated.
        double_high: (2·a·b) >> n, saturated, rounded down.
        shift, round_shift, saturating_shift: by a register's counts, to the left where they are positive.
        pairwise: neighbouring lanes added to one of twice the width.
        pairwise_add: the same onto an accumulator; "": LLVM makes it of the two.
    """

    long_multiply: str
    narrow: str
    narrow_unsigned: str
    multiply_high: str
    double_high: str
    shift: str
    round_shift: str
    saturating_shift: str
    pairwise: str
    pairwise_add: str = ""

    def add_pairs(self, acc: Expr, products: Expr) -> Expr:
        """acc (s32x4) plus neighbouring lanes of products (s16x8)."""
        if self.pairwise_add:
            return tir.intrin("int32x4", f"{self.pairwise_add}.v4i32.v8i16", acc, products)
        return acc + tir.intrin("int32x4", f"{self.pairwise}.v4i32.v8i16", products)

    def multiply8(self, a: Expr, b: Expr) -> Expr:
        """s8x8 · s8x8 -> s16x8."""
        return tir.intrin("int16x8", f"{self.long_multiply}.v8i16", a, b)

    def multiply16(self, a: Expr, b: Expr) -> Expr:
        """s16x4 · s16x4 -> s32x4."""
        return tir.intrin("int32x4", f"{self.long_multiply}.v4i32", a, b)


def _names(prefix: str, *names: str) -> NeonNames:
    return NeonNames(*(f"{prefix}{name}" for name in names))


AARCH64 = _names(
    "llvm.aarch64.neon.",
    *("smull", "sqxtn", "sqxtun", "sqrdmulh", "sqdmulh", "sshl", "srshl", "sqshl", "saddlp"),
)
ARMV7 = _names(
    "llvm.arm.neon.",
    *("vmulls", "vqmovns", "vqmovnsu", "vqrdmulh", "vqdmulh", "vshifts", "vrshifts", "vqshifts", "vpaddls", "vpadals"),
)
