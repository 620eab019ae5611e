"""DSP instructions of Armv7E-M and Armv8-M (Cortex-M4, M7, M33, M55): halfword pairs in general registers."""

from __future__ import annotations

from edgeq.compiler.isa.base import Expr
from edgeq.compiler.isa.lazy import tir


def even_bytes(word: Expr) -> Expr:
    """Bytes 0 and 2 of a word, sign-extended to two halfwords (sxtb16)."""
    return tir.intrin("int32", "llvm.arm.sxtb16", word)


def odd_bytes(word: Expr) -> Expr:
    """Bytes 1 and 3 of a word, sign-extended to two halfwords (sxtb16 with rotation)."""
    rotated = tir.intrin("int32", "llvm.fshr", word, word, tir.const(8))
    return tir.intrin("int32", "llvm.arm.sxtb16", rotated)


def dual_multiply(a: Expr, b: Expr, acc: Expr) -> Expr:
    """acc + a.low · b.low + a.high · b.high of halfwords, modulo 2^32 (smlad)."""
    return tir.intrin("int32", "llvm.arm.smlad", a, b, acc)


def multiply(a: Expr, a_high: bool, b: Expr, b_high: bool, acc: Expr) -> Expr:
    """acc + one halfword of a · one halfword of b (smlabb and its family)."""
    halves = ("t" if a_high else "b") + ("t" if b_high else "b")
    return tir.intrin("int32", f"llvm.arm.smla{halves}", a, b, acc)


def saturate(value: Expr, bits: int) -> Expr:
    """The value limited to a signed width (ssat)."""
    return tir.intrin("int32", "llvm.arm.ssat", value, tir.const(bits))
