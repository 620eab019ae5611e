"""Inner products of Armv8.2 dot products: sdot by lane; s16 activations by smlal."""

from __future__ import annotations

from edgeq.compiler.isa.neon import Neon
from edgeq.compiler.isa.products import DotLane, Product, WideLane

ISA = Neon()

PRODUCTS: dict[str, Product] = {
    "s8": DotLane("s8", group=4, lanes=4, registers=32, overhead=6),
    "u8": DotLane("u8", group=4, lanes=4, registers=32, overhead=6, flips=True),
    "s16": WideLane("s16", group=1, lanes=4, registers=32, overhead=8, chunk=8),
}
