"""Inner products of AVX-512 VNNI: vpdpbusd multiplies four u8 by four s8 without saturating, vpdpwssd two s16 pairs."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.x86.bits import BitCount
from edgeq.compiler.isa.x86.products import BroadcastProduct
from edgeq.compiler.isa.x86.vectors import Avx512

ISA = Avx512()

_BYTES = BroadcastProduct("u8", group=4, lanes=16, registers=32, intrinsic="llvm.x86.avx512.vpdpbusd.512")
_WORDS = BroadcastProduct(
    "s16", group=2, lanes=16, registers=32, intrinsic="llvm.x86.avx512.vpdpwssd.512", wide_weights=True
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
        lanes=16,
        registers=32,
        widest=4,
        shuffle="llvm.x86.avx512.pshuf.b.512",
        dot="llvm.x86.avx512.vpdpbusd.512",
    ),
)
