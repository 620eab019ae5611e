"""Depthwise products of 32-bit Neon: long multiplies, channels side by side."""

from edgeq.compiler.kernels.depthwise.products import Widening

PRODUCTS = {dtype: Widening(dtype, registers=8, multiply="llvm.arm.neon.vmulls") for dtype in ("s8", "s16")}
