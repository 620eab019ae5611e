"""Depthwise products of RV64IMAC: scalars."""

from edgeq.compiler.kernels.depthwise.products_plain import Plain

PRODUCTS = {dtype: Plain(dtype, lanes=4, registers=4) for dtype in ("s8", "s16")}
