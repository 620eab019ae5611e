"""Depthwise products of AVX2: s8 weights widened to s16 and pmaddwd, exact for every value."""

from edgeq.compiler.kernels.depthwise_products import Interleaved

_PMADDWD = "llvm.x86.avx2.pmadd.wd"

PRODUCTS = {
    dtype: Interleaved(dtype, 2, 8, _PMADDWD, accumulates=False, weights_first=False, registers=8)
    for dtype in ("u8", "s16")
}
