"""Depthwise products of AVX2: pmaddubsw where a layer's weights allow it, else pmaddwd on s16."""

from edgeq.compiler.kernels.depthwise.products import Interleaved
from edgeq.compiler.kernels.depthwise.products_bytes import ByteQuads, ByteSums

_PMADDWD = "llvm.x86.avx2.pmadd.wd"
_WORDS = {
    dtype: Interleaved(dtype, 2, 8, _PMADDWD, accumulates=False, weights_first=False, registers=12, slides=True)
    for dtype in ("u8", "s16")
}

PRODUCTS = {
    "u8": (ByteSums(registers=24, slides=True), ByteQuads(registers=12, slides=True), _WORDS["u8"]),
    "s16": _WORDS["s16"],
}
