"""Inner products of Armv8.6-A: smmla where rows come in pairs, sdot by lane; s16 activations by smlal."""

from __future__ import annotations

from edgeq.compiler.isa.arm.matrix import MatrixPair
from edgeq.compiler.isa.arm.neon import Neon
from edgeq.compiler.isa.arm.products import DotLane, WideLane
from edgeq.compiler.isa.products import Product

ISA = Neon()


def _bytes(dtype: str, flips: bool) -> tuple[Product, ...]:
    return (
        MatrixPair(dtype, group=8, lanes=4, registers=32, flips=flips),
        DotLane(dtype, group=4, lanes=4, registers=32, flips=flips),
    )


PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": _bytes("s8", flips=False),
    "u8": _bytes("u8", flips=True),
    "s16": (WideLane("s16", group=1, lanes=4, registers=32),),
}
