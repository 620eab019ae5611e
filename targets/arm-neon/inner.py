"""Inner products of Armv8.0 Neon: two s8 products in 16 bits (smull, smlal, sadalp), more where a layer's weights are
small; s16 activations by smlal."""

from __future__ import annotations

from edgeq.compiler.isa.arm.neon import Neon
from edgeq.compiler.isa.arm.products import BoundedPairs, ColumnSums, PairLane, WideLane
from edgeq.compiler.isa.products import Product

ISA = Neon()


def _bytes(dtype: str, flips: bool) -> tuple[Product, ...]:
    return (
        BoundedPairs(dtype, group=4, lanes=4, registers=32, flips=flips),
        PairLane(dtype, group=4, lanes=4, registers=32, lowest_weight=-127, flips=flips),
        ColumnSums(dtype, group=16, lanes=4, registers=32, lowest_weight=-127, flips=flips),
        PairLane(dtype, group=4, lanes=4, registers=32, flips=flips),  # for computed right sides, which hold −128 too
    )


PRODUCTS: dict[str, tuple[Product, ...]] = {
    "s8": _bytes("s8", flips=False),
    "u8": _bytes("u8", flips=True),
    "s16": (WideLane("s16", group=1, lanes=4, registers=32),),
}
