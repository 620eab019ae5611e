"""Depthwise products of relaxed WebAssembly on Arm: four bytes a lane, or i32x4.dot_i16x8_s on pairs of s16."""

from edgeq.compiler.kernels.depthwise.products import Interleaved
from edgeq.compiler.kernels.depthwise.products_relaxed import RelaxedQuads

_WORDS = {
    dtype: Interleaved(dtype, 2, 4, "llvm.wasm.dot", accumulates=False, weights_first=False, registers=16)
    for dtype in ("s8", "s16")
}

PRODUCTS = {
    "s8": RelaxedQuads(
        "s8",
        group=4,
        lanes=4,
        dot="llvm.wasm.relaxed.dot.i8x16.i7x16.add.signed",
        accumulates=True,
        weights_first=True,
        registers=16,
        wide=_WORDS["s8"],
    ),
    "s16": _WORDS["s16"],
}
