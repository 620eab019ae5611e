"""Cortex-M4: paired convolutions by smlad; everything else by plain arithmetic in general registers."""

from edgeq.compiler.isa.generic import Generic
from edgeq.compiler.isa.generic_products import LaneProduct
from edgeq.compiler.isa.paired import specialise

ISA = Generic()
PRODUCTS = {dtype: (LaneProduct(dtype, group=1, lanes=4, registers=3),) for dtype in ("s8", "u8", "s16")}
__all__ = ["ISA", "PRODUCTS", "specialise"]
