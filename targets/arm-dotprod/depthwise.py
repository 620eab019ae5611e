"""Depthwise products of Armv8.2-A with dot products: four interleaved bytes a lane with sdot; s16 as on plain Neon."""

from edgeq.compiler.kernels.depthwise.products import Interleaved, Widening

PRODUCTS = {
    "s8": Interleaved(
        "s8", 4, 4, "llvm.aarch64.neon.sdot.v4i32.v16i8", accumulates=True, weights_first=True, registers=16
    ),
    "s16": Widening("s16", registers=16),
}
