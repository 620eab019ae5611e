"""Inner products of Armv8.2 dot products: sdot by lane; s16 activations by smlal."""

from __future__ import annotations

from edgeq.compiler.isa.arm.neon import Neon
from edgeq.compiler.isa.arm.products import DotLane, WideLane
from edgeq.compiler.isa.products import Product

ISA = Neon()

PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": (DotLane("s8", group=4, lanes=4, registers=32),),
    "u8": (DotLane("u8", group=4, lanes=4, registers=32, flips=True),),
    "s16": (WideLane("s16", group=1, lanes=4, registers=32),),
}
