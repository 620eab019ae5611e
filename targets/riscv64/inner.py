"""Inner products of RV64IMAC: scalars, four to a register of the plan."""

from __future__ import annotations

from edgeq.compiler.isa.portable.vector_products import SplatProduct
from edgeq.compiler.isa.portable.vectors import Portable
from edgeq.compiler.isa.products import Product

ISA = Portable()

PRODUCTS: dict[str, tuple[Product, ...]] = {
    dtype: (SplatProduct(dtype, group=1, lanes=4, registers=26, parts=4),) for dtype in ("s8", "u8", "s16")
}
