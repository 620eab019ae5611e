"""Cortex-M55: dense convolutions by vmlava; everything else by vectors of four lanes."""

from edgeq.compiler.isa.cortex_m.vectors import specialise
from edgeq.compiler.isa.portable.scalar import Generic
from edgeq.compiler.isa.portable.scalar_products import LaneProduct

ISA = Generic()
PRODUCTS = {dtype: (LaneProduct(dtype, group=1, lanes=4, registers=6),) for dtype in ("s8", "u8", "s16")}
__all__ = ["ISA", "PRODUCTS", "specialise"]
