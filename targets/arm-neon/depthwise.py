"""Depthwise products of Armv8-A without dot products: long multiplies, channels side by side."""

from edgeq.compiler.kernels.depthwise.products import Widening

PRODUCTS = {dtype: Widening(dtype, registers=16) for dtype in ("s8", "s16")}
