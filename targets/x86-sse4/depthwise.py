"""Depthwise products of SSE4.1: pmaddwd on s16."""

from edgeq.compiler.kernels.depthwise_products import Interleaved

PRODUCTS = {
    dtype: Interleaved(dtype, 2, 4, "llvm.x86.sse2.pmadd.wd", accumulates=False, weights_first=False, registers=8)
    for dtype in ("u8", "s16")
}
