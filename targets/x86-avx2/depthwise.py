"""Depthwise products of AVX2: pmaddubsw where a layer's weights allow it, else pmaddwd on s16."""

from edgeq.compiler.kernels.depthwise_bytes import ByteQuads, ByteSums
from edgeq.compiler.kernels.depthwise_products import Interleaved

_PMADDWD = "llvm.x86.avx2.pmadd.wd"
_WORDS = {
    dtype: Interleaved(dtype, 2, 8, _PMADDWD, accumulates=False, weights_first=False, registers=12)
    for dtype in ("u8", "s16")
}

PRODUCTS = {"u8": (ByteSums(), ByteQuads(), _WORDS["u8"]), "s16": _WORDS["s16"]}
