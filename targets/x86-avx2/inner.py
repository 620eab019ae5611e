"""Inner products of AVX2: pmaddubsw where a layer's weights keep its sums in 16 bits, else pmaddwd on s16 pairs."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.x86.arrangement import WINDOW
from edgeq.compiler.isa.x86.bits import BitCount
from edgeq.compiler.isa.x86.pairing import ArrangedBytes
from edgeq.compiler.isa.x86.products import BroadcastProduct, BytePairs
from edgeq.compiler.isa.x86.vectors import Avx2
from edgeq.compiler.isa.x86.whole import WholeBytes

ISA = Avx2()

_WORDS = BroadcastProduct(
    "s16",
    group=2,
    lanes=8,
    registers=16,
    widest=2,
    overhead=2,
    intrinsic="llvm.x86.avx2.pmadd.wd",
    accumulates=False,
    wide_weights=True,
)

_BYTES = BytePairs("u8", group=4, lanes=8, registers=16, widest=2, overhead=3)

_ARRANGED = ArrangedBytes("u8", group=WINDOW, lanes=8, registers=16, widest=2, overhead=3)

# Of layers whose sums stay in 16 bits to the end.
WHOLE = WholeBytes("u8", group=4, lanes=8, registers=16, widest=2, overhead=2)

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "u8": (_BYTES, _ARRANGED, replace(_WORDS, x_dtype="u8", stages=True)),
    "s8": (replace(_BYTES, x_dtype="s8", flips=True), replace(_WORDS, x_dtype="s8", stages=True)),
    "s16": (_WORDS,),
}

BITS = (BitCount("u8", group=4, lanes=8, registers=16, widest=2, shuffle="llvm.x86.avx2.pshuf.b", pace=0.46),)
