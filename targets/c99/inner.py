"""C99: plain arithmetic in numbers of 8 to 64 bits, no vectors and no intrinsics."""

from edgeq.compiler.isa.portable.scalar import Generic
from edgeq.compiler.isa.portable.scalar_products import LaneProduct

ISA = Generic()
PRODUCTS = {dtype: (LaneProduct(dtype, group=1, lanes=4, registers=4),) for dtype in ("s8", "u8", "s16")}
