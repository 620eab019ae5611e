"""Depthwise products of AVX-VNNI: four interleaved bytes a lane with vpdpbusd; s16 activations in pairs."""

from edgeq.compiler.kernels.depthwise.products import Interleaved

PRODUCTS = {
    "u8": Interleaved("u8", 4, 8, "llvm.x86.avx512.vpdpbusd.256", accumulates=True, weights_first=False, registers=8),
    "s16": Interleaved("s16", 2, 8, "llvm.x86.avx512.vpdpwssd.256", accumulates=True, weights_first=False, registers=8),
}
