"""Inner products of AVX-VNNI: vpdpbusd multiplies four u8 by four s8 without saturating, vpdpwssd two s16 pairs."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.x86.bits import BitCount
from edgeq.compiler.isa.x86.products import BroadcastProduct
from edgeq.compiler.isa.x86.vectors import Avx2

ISA = Avx2()

_BYTES = BroadcastProduct(
    "u8", group=4, lanes=8, registers=16, widest=2, overhead=2, intrinsic="llvm.x86.avx512.vpdpbusd.256"
)
_WORDS = BroadcastProduct(
    "s16",
    group=2,
    lanes=8,
    registers=16,
    widest=2,
    overhead=2,
    intrinsic="llvm.x86.avx512.vpdpwssd.256",
    wide_weights=True,
)

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "u8": (_BYTES,),
    "s8": (replace(_BYTES, x_dtype="s8", flips=True),),
    "s16": (_WORDS,),
}

BITS = (
    BitCount(
        "u8",
        group=4,
        lanes=8,
        registers=16,
        widest=2,
        shuffle="llvm.x86.avx2.pshuf.b",
        dot="llvm.x86.avx512.vpdpbusd.256",
    ),
)
