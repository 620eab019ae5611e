"""Inner products of WebAssembly: i32x4.dot_i16x8_s, two s16 products a lane."""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.isa.products import Product
from edgeq.compiler.isa.wasm.products import WORDS
from edgeq.compiler.isa.wasm.vectors import WasmSimd

ISA = WasmSimd()


PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": (replace(WORDS, x_dtype="s8", stages=True),),
    "u8": (replace(WORDS, x_dtype="u8", stages=True),),
    "s16": (WORDS,),
}
