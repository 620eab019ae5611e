"""Thumb instructions of Armv6-M to Armv8.1-M: how long they are, and which compute with floating-point numbers.

Everything about floating point and about MVE's vectors is in one part of the encoding (Armv8-M Architecture Reference
Manual, C2.3: coprocessor, floating-point and vector instructions): words whose first halfword is 111x 11xx xxxx xxxx.
What of it moves bits or computes with integers is listed below by mask and value; anything else there counts as
floating point, also what this list doesn't know. Rows cover unallocated words too, but no floating point: a test holds
random words of each row against LLVM's disassembler.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SHARED_MASK, _SHARED = 0xEC000000, 0xEC000000
_FIRST_LONG = 0x1D  # upper five bits of the first halfword, from which on a second one follows
# (mask, value), and what they are. <dt> of MVE's instructions is i8 to u32.
INTEGER: tuple[tuple[int, int], ...] = (
    (0xEE000A00, 0xEC000A00),  # vldr, vstr, vldm, vstm, vpush, vpop; vldrb … vstrd, gathers, vld2 … vst4; vmov of two
    (0xFF000E1F, 0xEE000A10),  # vmov of one register or lane, vdup, vmsr, vmrs
    (0xFFBF0ED0, 0xEEB00A40),  # vmov of registers s and d
    (0xFFC10FD0, 0xEE000E40),  # vqrdmlah, vqrdmlash, vqdmlah
    (0xEFC10FF0, 0xEE000F60),  # vqadd, vqsub, vqdmull by a register
    (0xEFC01F70, 0xEE001E60),  # vmul by a register, vbrsr, vqdmlash, shifts by a register
    (0xEF410FD0, 0xEE000F00),  # vcadd, vhcadd, vadc, vsbc, vqdmull, vabav, vrmlaldavh
    (0xEFD00E10, 0xEE000E00),  # vmulh, vrmulh; vhadd … vmla, vmlas, viddup … by a register; vcmp of i8 and i32
    (0xEFF00E10, 0xEE100E00),  # the same of i16
    (0xEFC10FF1, 0xEE010E00),  # vmull
    (0xEFF90F71, 0xEE310E01),  # vmovn, vqmovn, vqmovun, vshll by the width, vmaxa, vmina
    (0xFFF70FF1, 0xEE330E81),  # vmaxa, vmina
    (0xEF800FD0, 0xEE800E00),  # vmlsdav, vmlsldav, vmlaldav
    (0xEFA10FD1, 0xEE800F00),  # vrmlaldavh
    (0xEFC00F70, 0xEE800F40),  # vshlc, vshll, vmovl, vshrn … vqrshrun
    (0xEF8F1FD1, 0xEE890F00),  # vaddlv
    (0xEFF50F71, 0xEEE00F00),  # vmaxv, vminv, vmaxav, vminav
    (0xEFFD0F71, 0xEEE40F00),  # the same of i16
    (0xEFF00ED1, 0xEEF00E00),  # vmladav, vaddv
    (0xEFC114E1, 0xEF000040),  # vadd, vsub, vmul, vhadd, vqdmulh, vand, vbic, vorr, vorn, veor
    (0xEF4018F1, 0xEF000050),  # vqadd, vqsub, vmin; shifts by an immediate
    (0xEFC11BE1, 0xEF000140),  # vrhadd, vqrshl
    (0xEFC11CF1, 0xEF000440),  # vmax, vabd, vshl, vrshl
    (0xEFF811D0, 0xEF800050),  # vmov, vmvn of an immediate
    (0xEFF819D0, 0xEF800150),  # vorr, vbic of an immediate of 32 bits
    (0xEFF81DD0, 0xEF800950),  # … of 16 bits
    (0xEFF81FD0, 0xEF800D50),  # vmov, vmvn of 32 bits with ones behind
    (0xFFF11FF1, 0xFE310F01),  # vpsel
    (0xFFBF1FFF, 0xFE310F4D),  # vpnot, vpst
    (0xFF910F10, 0xFE010F00),  # vcmp, vpt of i8 and i32
    (0xFFB10F10, 0xFE110F00),  # vcmp, vpt of i16
    (0xFFF31871, 0xFFB00040),  # vrev, vcls, vclz, vmvn, vqabs, vqneg
    (0xFFF31F71, 0xFFB10340),  # vabs, vneg
)
# Integer instructions of Armv8.1-M that disassemblers are late with: loops with a counter and vctp; csel and its kind,
# shifts of 64 bits.
_LATE: tuple[tuple[int, int], ...] = ((0xF800D001, 0xF000C001), (0xFFF00000, 0xEA500000))


def instructions(code: bytes) -> Iterator[tuple[int, int, int]]:
    """(place, size, word) of every instruction, the first halfword of a long one in the word's upper half.

    Ends in front of one that is cut off.
    """
    place = 0
    while place + 2 <= len(code):
        (first,) = struct.unpack_from("<H", code, place)
        if first >> 11 < _FIRST_LONG:
            yield place, 2, first
            place += 2
            continue
        if place + 4 > len(code):
            return
        yield place, 4, first << 16 | int.from_bytes(code[place + 2 : place + 4], "little")
        place += 4


def is_shared(size: int, word: int) -> bool:
    """Whether it is in the part of the encoding that floating point and vectors share."""
    return size == 4 and word & _SHARED_MASK == _SHARED


def is_integer(word: int) -> bool:
    """Whether a word of that part moves bits or computes with integers."""
    return any(word & mask == value for mask, value in INTEGER)


def is_late(size: int, word: int) -> bool:
    """Whether it is one of Armv8.1-M's integer instructions outside that part."""
    return size == 4 and any(word & mask == value for mask, value in _LATE)
