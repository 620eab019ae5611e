"""32-bit Arm code: which words between the instructions are constants (ARM Architecture Reference Manual, A5, A8.8.64).

LLVM keeps distances to constants in the words behind a function and loads them with `ldr register, [pc, #n]`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_LITERAL_LOAD = 0x051F0000  # ldr rt, [pc, #±imm12] under _LITERAL_MASK: any condition, either sign
_LITERAL_MASK = 0x0F7F0000
_ALWAYS = 0xE
_ADD = 1 << 23


def _leaves(word: int) -> bool:
    """Whether nothing runs from this instruction into the next: an unconditional b, bx, pop {…, pc}, ldr pc, mov pc."""
    if word >> 28 != _ALWAYS:
        return False
    return (
        word & 0x0F000000 == 0x0A000000
        or word & 0x0FFFFFF0 == 0x012FFF10
        or word & 0x0E108000 == 0x08108000
        or word & 0x0C10F000 == 0x0410F000
        or word & 0x0FFFFFF0 == 0x01A0F000
    )


def spans(code: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the stretches of instructions. A word counts as a constant only where some instruction loads it
    from there and none can run into it."""
    words = [word for (word,) in struct.iter_unpack("<I", code[: len(code) // 4 * 4])]
    loaded = set()
    for index, word in enumerate(words):
        if word & _LITERAL_MASK == _LITERAL_LOAD:
            distance = word & 0xFFF
            loaded.add(4 * index + 8 + (distance if word & _ADD else -distance))
    start, apart = 0, False  # apart: nothing runs from the previous word into this one
    for index, word in enumerate(words):
        place = 4 * index
        if place in loaded and apart:
            if start < place:
                yield start, place
            start = place + 4
        else:
            apart = _leaves(word)
    if start < len(code):
        yield start, len(code)
