"""Depthwise products of WebAssembly: i32x4.dot_i16x8_s on taps interleaved in pairs."""

from edgeq.compiler.kernels.depthwise.products import Interleaved

PRODUCTS = {
    dtype: Interleaved(dtype, 2, 4, "llvm.wasm.dot", accumulates=False, weights_first=False, registers=8)
    for dtype in ("s8", "u8", "s16")
}
