"""256-byte tables in vector registers: table[index] for u8 lanes, one way per instruction set.

Every function takes u8 indices and a flat buffer whose 256 bytes from `start` on are the table, and returns u8 lanes.
"""

from __future__ import annotations

from edgeq.compiler.isa.base import Expr, lanes_of
from edgeq.compiler.isa.lazy import tir


def _splat(value: int, dtype: str, lanes: int) -> Expr:
    return tir.broadcast(tir.const(value, dtype), lanes)


def _widened(index: Expr, lanes: int) -> Expr:
    """The index vector padded with copies of its lanes to a full register."""
    have = lanes_of(index)
    return tir.bind(tir.shuffle([tir.bind(index)] * (lanes // have), range(lanes)) if have < lanes else index)


def _narrowed(value: Expr, lanes: int) -> Expr:
    """The first lanes of a result."""
    return value if lanes_of(value) == lanes else tir.shuffle([tir.bind(value)], range(lanes))


def by_shuffles(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """SSSE3, AVX2: a shuffle for each of 16 rows of the table.

    pshufb gives 0 where bit 7 of its index is set. Each row is kept as its difference (xor) to the one in front of it,
    so that the shuffles of all rows up to the one wanted add up to it; going on by a row takes 16 off the index, which
    has bit 7 from then on where that row isn't reached (saturated: it keeps it). Rows 8 to 15 do the same with bit 7
    turned over.
    """
    op, wanted = tir.tirx.op, lanes_of(index)
    lanes = 16 if wanted <= 16 else 32
    vector, name = f"int8x{lanes}", ("llvm.x86.ssse3.pshuf.b.128" if lanes == 16 else "llvm.x86.avx2.pshuf.b")
    lower = tir.hold(tir.reinterpret(vector, _widened(index, lanes)))
    upper = tir.hold(op.bitwise_xor(lower, _splat(-128, "int8", lanes)))

    def row(number: int) -> Expr:
        part = tir.bind(tir.reinterpret("int8x16", tir.vload(table, tir.i32(start) + 16 * number, 16)))
        return part if lanes == 16 else tir.bind(tir.shuffle([part, part], range(32)))

    found = None
    for half, first in ((lower, 0), (upper, 8)):
        before = None
        for number in range(8):
            own = row(first + number)
            step = own if before is None else tir.bind(op.bitwise_xor(own, before))
            moved = tir.intrin(vector, "llvm.ssub.sat", half, _splat(16 * number, "int8", lanes)) if number else half
            part = tir.intrin(vector, name, step, moved)
            found = part if found is None else op.bitwise_xor(found, part)
            found, before = tir.bind(found), own
    return _narrowed(tir.reinterpret(f"uint8x{lanes}", found), wanted)


def by_word_permutes(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """AVX-512 BW: two 64-word permutes hold the table; even and odd bytes are looked up as words, then picked apart."""
    op, wanted = tir.tirx.op, lanes_of(index)
    words = tir.hold(tir.reinterpret("int16x32", _widened(index, 64)))
    parts = [tir.reinterpret("int16x32", tir.vload(table, tir.i32(start) + 64 * k, 64)) for k in range(4)]
    unsigned = tir.bind(tir.reinterpret("uint16x32", words))

    def permuted(shift: int, upper: Expr) -> Expr:
        # The permute looks at 6 bits of the word number: bits 1 to 6 of the byte; bit 7 chooses the half.
        number = tir.hold(tir.reinterpret("int16x32", op.shift_right(unsigned, _splat(shift, "uint16", 32))))
        halves = [
            tir.intrin("int16x32", "llvm.x86.avx512.vpermi2var.hi.512", parts[k], number, parts[k + 1]) for k in (0, 2)
        ]
        chosen = tir.tirx.Select(upper, halves[1], halves[0])
        return tir.hold(tir.reinterpret("uint16x32", chosen))

    zero = _splat(0, "int16", 32)
    even = permuted(1, (words & _splat(0x80, "int16", 32)) != zero)
    odd = permuted(9, words < zero)
    eight, one = _splat(8, "uint16", 32), _splat(1, "uint16", 32)
    even_shift = (unsigned & one) * eight
    odd_shift = (op.shift_right(unsigned, eight) & one) * eight
    low = op.shift_right(even, even_shift) & _splat(0xFF, "uint16", 32)
    high = op.shift_left(op.shift_right(odd, odd_shift), eight)
    return _narrowed(tir.reinterpret("uint8x64", low | high), wanted)


def by_table_registers(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """Neon: four lookups of 64 bytes each; indices outside a lookup's table leave the lane as it was."""
    wanted = lanes_of(index)
    index = tir.reinterpret("int8x16", _widened(index, 16))
    rows = [tir.reinterpret("int8x16", tir.vload(table, tir.i32(start) + 16 * row, 16)) for row in range(16)]
    value = tir.intrin("int8x16", "llvm.aarch64.neon.tbl4.v16i8", *rows[:4], index)
    for k in range(1, 4):
        moved = index - _splat(64 * k - 256 if k > 1 else 64, "int8", 16)
        value = tir.intrin("int8x16", "llvm.aarch64.neon.tbx4.v16i8", value, *rows[4 * k : 4 * k + 4], moved)
    return _narrowed(tir.reinterpret("uint8x16", value), wanted)


def by_loads(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """Anywhere: one load a lane (a gather where the machine has one)."""
    wide = f"int32x{lanes_of(index)}"
    place = tir.cast(wide, index) + tir.broadcast(tir.i32(start), lanes_of(index))
    return tir.reinterpret(f"uint8x{lanes_of(index)}", tir.tirx.BufferLoad(table, [place]))


def by_half_tables(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """32-bit Neon: eight lookups of 32 bytes for each eight lanes."""
    wanted = lanes_of(index)
    whole = tir.bind(tir.reinterpret(f"int8x{max(wanted, 8)}", _widened(index, max(wanted, 8))))
    rows = [tir.bind(tir.reinterpret("int8x8", tir.vload(table, tir.i32(start) + 8 * row, 8))) for row in range(32)]
    parts = []
    for first in range(0, lanes_of(whole), 8):
        part = whole if lanes_of(whole) == 8 else tir.bind(tir.shuffle([whole], range(first, first + 8)))
        value = tir.intrin("int8x8", "llvm.arm.neon.vtbl4", *rows[:4], part)
        for k in range(1, 8):
            moved = part - _splat((32 * k + 128) % 256 - 128, "int8", 8)
            value = tir.intrin("int8x8", "llvm.arm.neon.vtbx4", value, *rows[4 * k : 4 * k + 4], moved)
        parts.append(tir.bind(value))
    joined = parts[0] if len(parts) == 1 else tir.shuffle(parts, range(8 * len(parts)))
    return _narrowed(tir.reinterpret(f"uint8x{lanes_of(whole)}", joined), wanted)


def by_swizzles(index: Expr, table: Expr, start: Expr | int = 0) -> Expr:
    """WebAssembly: a swizzle for each of 16 rows of the table; an index outside a row gives 0."""
    wanted = lanes_of(index)
    index = tir.hold(tir.reinterpret("int8x16", _widened(index, 16)))
    value = None
    for row in range(16):
        part = tir.reinterpret("int8x16", tir.vload(table, tir.i32(start) + 16 * row, 16))
        found = tir.intrin("int8x16", "llvm.wasm.swizzle", part, index)
        value = tir.hold(found if value is None else value | found)
        if row < 15:
            index = tir.hold(index - _splat(16, "int8", 16))
    return _narrowed(tir.reinterpret("uint8x16", value), wanted)
