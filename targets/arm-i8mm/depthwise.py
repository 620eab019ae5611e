"""Depthwise products of Armv8.6-A, as with dot products alone: sdot on four interleaved bytes a lane, s16 by smlal."""

from edgeq.compiler.kernels.depthwise.products import Interleaved, Widening

PRODUCTS = {
    "s8": Interleaved(
        "s8", 4, 4, "llvm.aarch64.neon.sdot.v4i32.v16i8", accumulates=True, weights_first=True, registers=16
    ),
    "s16": Widening("s16", registers=16),
}
