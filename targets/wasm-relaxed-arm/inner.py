"""Inner products of relaxed WebAssembly on Arm: i32x4.relaxed_dot_i8x16_i7x16_add_s, four s8 products a lane (sdot).

Without dot products the processor adds two products in 16 bits first, which holds for weights of −127 … 127
(2 · 128 · 127 = 32512); computed right sides have −128 too and go by i32x4.dot_i16x8_s.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.wasm.products import WORDS, RelaxedDot
from edgeq.compiler.isa.wasm.vectors import WasmSimd

ISA = WasmSimd()

_BYTES = RelaxedDot(
    "s8",
    group=4,
    lanes=4,
    registers=32,
    widest=4,
    overhead=2,
    lowest_weight=-127,
    intrinsic="llvm.wasm.relaxed.dot.i8x16.i7x16.add.signed",
)

_WORDS = replace(WORDS, registers=32)

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": (_BYTES, replace(_WORDS, x_dtype="s8", stages=True)),
    "u8": (replace(_BYTES, x_dtype="u8", flips=True), replace(_WORDS, x_dtype="u8", stages=True)),
    "s16": (_WORDS,),
}
