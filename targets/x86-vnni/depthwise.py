"""Depthwise products of AVX-512 VNNI: four interleaved bytes a lane with vpdpbusd; s16 activations in pairs."""

from edgeq.compiler.kernels.depthwise.products import Interleaved

PRODUCTS = {
    "u8": Interleaved(
        "u8", 4, 16, "llvm.x86.avx512.vpdpbusd.512", accumulates=True, weights_first=False, registers=16, slides=True
    ),
    # LLVM joins pmaddwd and the addition into vpdpwssd.
    "s16": Interleaved(
        "s16", 2, 16, "llvm.x86.avx512.pmaddw.d.512", accumulates=False, weights_first=False, registers=16
    ),
}
