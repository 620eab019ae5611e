"""Depthwise products of RISC-V vectors: long multiplies, channels side by side."""

from edgeq.compiler.kernels.depthwise.products_plain import Plain

PRODUCTS = {dtype: Plain(dtype, lanes=8, registers=8, long_multiply=True) for dtype in ("s8", "s16")}
