"""Inner products of WebAssembly: i32x4.dot_i16x8_s, two s16 products a lane."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.wasm.vectors import WasmSimd
from edgeq.compiler.isa.x86.products import BroadcastProduct

ISA = WasmSimd()

# Sixteen registers: what engines have on x86, where most of these modules run.
_WORDS = BroadcastProduct(
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

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": (replace(_WORDS, x_dtype="s8", stages=True),),
    "u8": (replace(_WORDS, x_dtype="u8", stages=True),),
    "s16": (_WORDS,),
}
