"""The little that static libraries need of relocatable ELF objects, 32 and 64 bits: symbols and section sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.artifact.elf import ElfError

_SHT_SYMTAB = 2
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
UNWINDING = {"__aeabi_unwind_cpp_pr0", "__aeabi_unwind_cpp_pr1"}  # left over from unwind tables that were dropped
_GLOBAL, _WEAK, _HIDDEN = 1, 2, 2


@dataclass(frozen=True)
class Section:
    """One section header."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    entry_size: int


@dataclass(frozen=True)
class Symbol:
    """One symbol; `place` is where its record begins in the file, `info` and `other` as in ELF."""

    name: str
    place: int
    value: int
    size: int
    info: int
    other: int
    section: int


def _layout(raw: bytes) -> bool:
    """Whether it is a 64-bit object; raises `ElfError` for anything but little-endian ELF."""
    if len(raw) < 52 or raw[:4] != b"\x7fELF" or raw[4] not in (1, 2) or raw[5] != 1:
        raise ElfError("not a little-endian ELF object")
    return raw[4] == 2


def sections(raw: bytes) -> list[Section]:
    """All sections."""
    wide = _layout(raw)
    head = struct.Struct("<IIQQQQIIQQ" if wide else "<IIIIIIIIII")
    start = struct.unpack_from("<Q", raw, 40)[0] if wide else struct.unpack_from("<I", raw, 32)[0]
    count, names_at = struct.unpack_from("<HH", raw, 60 if wide else 48)
    try:
        rows = [head.unpack_from(raw, start + k * head.size) for k in range(count)]
    except struct.error as error:
        raise ElfError("the section headers are outside the file") from error
    names = rows[names_at][4] if names_at < count else 0
    return [Section(_text(raw, names + r[0]), r[1], r[2], r[4], r[5], r[6], r[9]) for r in rows]


def _text(raw: bytes, place: int) -> str:
    end = raw.find(b"\0", place)
    return raw[place : end if end >= 0 else place].decode("utf-8", "replace")


def symbols(raw: bytes) -> Iterator[Symbol]:
    """All symbols but the empty first one."""
    wide, table = _layout(raw), sections(raw)
    record = struct.Struct("<IBBHQQ" if wide else "<IIIBBH")
    for section in table:
        if section.kind != _SHT_SYMTAB:
            continue
        for place in range(section.offset + record.size, section.offset + section.size, record.size):
            fields = record.unpack_from(raw, place)
            name, *rest = fields
            info, other, index, value, size = rest if wide else (*rest[2:], *rest[:2])
            yield Symbol(_text(raw, table[section.link].offset + name), place, value, size, info, other, index)


def with_weak_symbols(raw: bytes, keep: str) -> bytes:
    """The object with all its definitions weak and hidden, but those whose name begins with `keep`, and without need of
    an unwinder.

    Two models may share kernels: equal names are equal code, so that a linker may take either.
    """
    wide, made = _layout(raw), bytearray(raw)
    info_at = 4 if wide else 12
    for symbol in symbols(raw):
        if symbol.info >> 4 == _GLOBAL and symbol.section and not symbol.name.startswith(keep):
            made[symbol.place + info_at] = _WEAK << 4 | symbol.info & 15
            made[symbol.place + info_at + 1] = _HIDDEN
        elif symbol.name in UNWINDING:
            made[symbol.place + info_at] = _WEAK << 4 | symbol.info & 15
    return bytes(made)


def undefined_symbols(raw: bytes) -> set[str]:
    """Names that somebody else must define."""
    return {s.name for s in symbols(raw) if s.section == 0 and s.name not in ("", *UNWINDING)}


def read_only_bytes(raw: bytes) -> int:
    """Bytes of code and constants.

    Raises:
        ElfError: the object has writable data.
    """
    total = 0
    for section in sections(raw):
        # Tables of addresses are written once, by the loader of a position-independent program.
        if section.flags & _SHF_WRITE and section.size and not section.name.startswith(".data.rel.ro"):
            raise ElfError(f"writable section {section.name}")
        total += section.size if section.flags & _SHF_ALLOC else 0
    return total
