"""Cortex-M4: paired convolutions by smlad; everything else by plain arithmetic in general registers."""

from edgeq.compiler.isa.cortex_m.paired import specialise
from edgeq.compiler.isa.portable.scalar import Generic
from edgeq.compiler.isa.portable.scalar_products import LaneProduct

ISA = Generic()
PRODUCTS = {dtype: (LaneProduct(dtype, group=1, lanes=4, registers=3),) for dtype in ("s8", "u8", "s16")}
__all__ = ["ISA", "PRODUCTS", "specialise"]
