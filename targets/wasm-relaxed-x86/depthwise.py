"""Depthwise products of relaxed WebAssembly on x86-64: i16x8.relaxed_dot_i8x16_i7x16_s where a layer's weights allow
it, else i32x4.dot_i16x8_s."""

from edgeq.compiler.isa.byte_dot import RELAXED
from edgeq.compiler.kernels.depthwise.products import Interleaved
from edgeq.compiler.kernels.depthwise.products_bytes import ByteQuads, ByteSums

_WORDS = {
    dtype: Interleaved(dtype, 2, 4, "llvm.wasm.dot", accumulates=False, weights_first=False, registers=8)
    for dtype in ("u8", "s16")
}

PRODUCTS = {
    "u8": (
        ByteSums(lanes=4, registers=16, instructions=RELAXED),
        ByteQuads(lanes=4, registers=8, instructions=RELAXED),
        _WORDS["u8"],
    ),
    "s16": _WORDS["s16"],
}
