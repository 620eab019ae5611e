"""Vector operations and inner products of this instruction set."""

from __future__ import annotations

from edgeq.compiler.isa.x86 import Avx2

ISA = Avx2()
