"""Vector operations and inner products of this instruction set."""

from __future__ import annotations

from edgeq.compiler.isa.neon import Neon

ISA = Neon()
