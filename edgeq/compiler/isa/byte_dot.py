"""The instruction that adds two products of u8 · s8 in saturating 16 bits, and what goes with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from edgeq.compiler.isa.base import Expr, lanes_of
from edgeq.compiler.isa.lazy import tir


class ByteDot(ABC):
    """Registers have any width that the instruction set knows."""

    @abstractmethod
    def multiply(self, x: Expr, w: Expr) -> Expr:
        """u8 · s8, neighbours added: [2n] and [2n] -> s16 [n], saturating."""

    @abstractmethod
    def widen(self, words: Expr) -> Expr:
        """Neighbours added: s16 [2n] -> s32 [n]."""

    @abstractmethod
    def permute(self, window: Expr, order: Expr) -> Expr:
        """16 bytes by an index of 0 to 15 for each lane of `order`."""


def _ones(words: Expr) -> Expr:
    return tir.broadcast(tir.const(1, "int16"), lanes_of(words))


@dataclass(frozen=True)
class X86ByteDot(ByteDot):
    """pmaddubsw, pmaddwd and pshufb of SSSE3 and AVX2."""

    def multiply(self, x: Expr, w: Expr) -> Expr:
        name = {16: "llvm.x86.ssse3.pmadd.ub.sw.128", 32: "llvm.x86.avx2.pmadd.ub.sw"}[lanes_of(x)]
        return tir.intrin(f"int16x{lanes_of(x) // 2}", name, x, w)

    def widen(self, words: Expr) -> Expr:
        name = {8: "llvm.x86.sse2.pmadd.wd", 16: "llvm.x86.avx2.pmadd.wd"}[lanes_of(words)]
        return tir.intrin(f"int32x{lanes_of(words) // 2}", name, words, _ones(words))

    def permute(self, window: Expr, order: Expr) -> Expr:
        if lanes_of(order) == 16:
            return tir.intrin("int8x16", "llvm.x86.ssse3.pshuf.b.128", window, order)
        return tir.intrin("int8x32", "llvm.x86.avx2.pshuf.b", tir.shuffle([window, window], range(32)), order)


@dataclass(frozen=True)
class RelaxedByteDot(ByteDot):
    """i16x8.relaxed_dot_i8x16_i7x16_s where the engine takes its second operand as u8 and saturates, as on x86-64."""

    def multiply(self, x: Expr, w: Expr) -> Expr:
        return tir.intrin("int16x8", "llvm.wasm.relaxed.dot.i8x16.i7x16.signed", w, x)

    def widen(self, words: Expr) -> Expr:
        return tir.intrin("int32x4", "llvm.wasm.extadd.pairwise.signed", words)

    def permute(self, window: Expr, order: Expr) -> Expr:
        return tir.intrin("int8x16", "llvm.wasm.relaxed.swizzle", window, order)


X86, RELAXED = X86ByteDot(), RelaxedByteDot()
