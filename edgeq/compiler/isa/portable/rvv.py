"""RISC-V vectors: eight s32 lanes, which are two registers of 128 bits or a part of a wider one."""

from __future__ import annotations

from edgeq.compiler.isa.portable.vectors import Portable


class Rvv(Portable):
    """Lengths are set by the code (vsetivli), never asked of the machine: one artifact, the same bits at every VLEN."""

    lanes = 8
