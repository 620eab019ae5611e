"""32-bit Arm: the same Neon registers, sixteen of them."""

from __future__ import annotations

from edgeq.compiler.isa import lookup
from edgeq.compiler.isa.arm.names import ARMV7
from edgeq.compiler.isa.arm.neon import Neon
from edgeq.compiler.isa.base import Expr


class Neon32(Neon):
    """Table lookups take 32 bytes at once."""

    names = ARMV7

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_half_tables(index, table, start)
