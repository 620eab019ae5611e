"""RISC-V instructions by their encoding: which ones know floating-point numbers.

Disassemblers know extensions late; opcodes are few and regular (The RISC-V Instruction Set Manual, Volume I, "RV32/64G
Instruction Set Listings", and "V" Standard Extension, "Vector Instruction Formats").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Bits 6 … 0 of a 32-bit instruction.
_INTEGER = {0x03, 0x0F, 0x13, 0x17, 0x1B, 0x23, 0x2F, 0x33, 0x37, 0x3B, 0x63, 0x67, 0x6F, 0x73}
_FLOAT = {0x43, 0x47, 0x4B, 0x4F, 0x53}  # fused multiply-add, OP-FP
_MEMORY = {0x07, 0x27}  # loads and stores of floats, and of vectors
_VECTOR = 0x57
_FLOAT_WIDTHS = {1, 2, 3, 4}  # half to quad; the others are vectors' widths
_VECTOR_FLOAT = {1, 5}  # OPFVV, OPFVF
# (quadrant, funct3) of 16-bit instructions: c.fld, c.fsd, c.fldsp, c.fsdsp (RV64).
_SHORT_FLOAT = {(0, 1), (0, 5), (2, 1), (2, 5)}
_FLOAT_STATUS = {1, 2, 3}  # control registers fflags, frm, fcsr


def instructions(code: bytes) -> Iterator[tuple[int, int, bool]]:
    """(place, size, whether it is a floating-point instruction); stops in front of what is no instruction."""
    place = 0
    while place + 2 <= len(code):
        (half,) = struct.unpack_from("<H", code, place)
        if half & 3 != 3:
            yield place, 2, (half & 3, half >> 13) in _SHORT_FLOAT
            place += 2
            continue
        if half & 0x1C == 0x1C or place + 4 > len(code):
            return  # longer than 32 bits: no extension has such yet
        (word,) = struct.unpack_from("<I", code, place)
        found = _is_float(word)
        if found is None:
            return
        yield place, 4, found
        place += 4


def _is_float(word: int) -> bool | None:
    opcode, funct3 = word & 0x7F, word >> 12 & 7
    if opcode in _MEMORY:
        return funct3 in _FLOAT_WIDTHS
    if opcode == _VECTOR:
        return funct3 in _VECTOR_FLOAT
    if opcode == 0x73 and funct3 not in (0, 4):
        return word >> 20 in _FLOAT_STATUS
    if opcode in _FLOAT:
        return True
    return False if opcode in _INTEGER else None
