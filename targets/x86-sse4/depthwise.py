"""Depthwise products of SSE4.1: pmaddubsw where a layer's weights allow it, else pmaddwd on s16."""

from edgeq.compiler.kernels.depthwise.products import Interleaved
from edgeq.compiler.kernels.depthwise.products_bytes import ByteQuads, ByteSums

_WORDS = {
    dtype: Interleaved(dtype, 2, 4, "llvm.x86.sse2.pmadd.wd", accumulates=False, weights_first=False, registers=8)
    for dtype in ("u8", "s16")
}

PRODUCTS = {"u8": (ByteSums(lanes=4), ByteQuads(lanes=4), _WORDS["u8"]), "s16": _WORDS["s16"]}
