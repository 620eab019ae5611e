"""Inner products of 32-bit Neon: two s8 products in 16 bits (vmull, vmlal, vpadal); s16 activations by vmlal."""

from __future__ import annotations

from edgeq.compiler.isa.arm.neon32 import Neon32
from edgeq.compiler.isa.arm.products import PairLane, WideLane
from edgeq.compiler.isa.products import Product

ISA = Neon32()
_NAMES = ISA.names


def _bytes(dtype: str, flips: bool) -> tuple[Product, ...]:
    return (
        PairLane(dtype, group=4, lanes=4, registers=16, lowest_weight=-127, flips=flips, spare=5, names=_NAMES),
        PairLane(dtype, group=4, lanes=4, registers=16, flips=flips, spare=5, names=_NAMES),
    )


PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": _bytes("s8", flips=False),
    "u8": _bytes("u8", flips=True),
    "s16": (WideLane("s16", group=1, lanes=4, registers=16, names=_NAMES),),
}
