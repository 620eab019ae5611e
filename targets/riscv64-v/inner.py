"""Inner products of RISC-V vectors: vwmacc of s16 in groups of two registers (part of one where they are wider)."""

from __future__ import annotations

from edgeq.compiler.isa.portable.rvv import Rvv
from edgeq.compiler.isa.portable.vector_products import SplatProduct
from edgeq.compiler.isa.products import Product

ISA = Rvv()

PRODUCTS: dict[str, tuple[Product, ...]] = {
    dtype: (SplatProduct(dtype, group=1, lanes=8, registers=30, parts=2, long_multiply=True),)
    for dtype in ("s8", "u8", "s16")
}
