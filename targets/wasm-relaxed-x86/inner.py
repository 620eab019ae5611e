"""Inner products of relaxed WebAssembly on x86-64: i16x8.relaxed_dot_i8x16_i7x16_s where a layer's weights keep its
sums in 16 bits or can be paired so, else i32x4.dot_i16x8_s."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.byte_dot import RELAXED
from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.wasm.products import WORDS
from edgeq.compiler.isa.wasm.vectors import WasmSimd
from edgeq.compiler.isa.x86.arrangement import WINDOW
from edgeq.compiler.isa.x86.pairing import ArrangedBytes
from edgeq.compiler.isa.x86.products import BytePairs

ISA = WasmSimd()


_BYTES = BytePairs("u8", group=4, lanes=4, registers=16, widest=4, overhead=3, dot=RELAXED)

_ARRANGED = ArrangedBytes("u8", group=WINDOW, lanes=4, registers=16, widest=4, overhead=3, dot=RELAXED)

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "u8": (_BYTES, _ARRANGED, replace(WORDS, x_dtype="u8", stages=True)),
    "s8": (replace(_BYTES, x_dtype="s8", flips=True), replace(WORDS, x_dtype="s8", stages=True)),
    "s16": (WORDS,),
}
