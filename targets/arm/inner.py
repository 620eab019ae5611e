"""Inner products of Armv8.0 Neon: pairs of s8 products in 16 bits (smull, smlal2, sadalp); s16 activations by smlal."""

from __future__ import annotations

from edgeq.compiler.isa.neon import Neon
from edgeq.compiler.isa.products import PairLane, Product, WideLane

ISA = Neon()

PRODUCTS: dict[str, Product] = {
    "s8": PairLane("s8", group=4, lanes=4, registers=32, overhead=8, lowest_weight=-127),
    "u8": PairLane("u8", group=4, lanes=4, registers=32, overhead=8, flips=True, lowest_weight=-127),
    "s16": WideLane("s16", group=1, lanes=4, registers=32, overhead=8, chunk=8),
}
