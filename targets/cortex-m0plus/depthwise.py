"""Cortex-M0+: one multiply-accumulate a channel and tap."""

from edgeq.compiler.kernels.depthwise.products_taps import PlainTaps

PRODUCTS = {dtype: PlainTaps(dtype) for dtype in ("s8", "u8", "s16")}
