"""Machine code in static libraries: the instructions of every object in an ar archive, without constants in between.

Objects for Arm say by mapping symbols where instructions begin and where constants do (ELF for the Arm Architecture,
5.5.5): `$t` Thumb, `$a` 32-bit Arm, `$x` 64-bit, `$d` constants, each up to the next one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from edgeq.artifact import elf32
from edgeq.artifact.elf import MACHINES, ElfError

MAGIC = b"!<arch>\n"
_HEADER, _SIZE_AT, _END = 60, 48, b"`\n"
_EXECUTABLE = 4
_MACHINE_AT = 18
_MAPPING = {"$t": "thumb", "$a": "armv7", "$x": "", "$d": None}

# Floating point in functions of libgcc and of Arm's run-time ABI, where the processor has no instructions for it.
_FLOAT_HELPER = re.compile(
    r"__aeabi_(?:[fd]\w+|c[fd]\w+|u?[il]2[fd]|ul2[fd]|h2f\w*)|__\w+[shdtx]f\d?|__(?:fix|float|extend|trunc)\w+"
)


def float_helpers(data: bytes) -> list[str]:
    """Functions for floating point that the library calls.

    Raises:
        ElfError: no archive, or one that is damaged.
    """
    objects = [member for member in _members(data) if member[:4] == b"\x7fELF"]
    names: set[str] = set().union(*(elf32.undefined_symbols(raw) for raw in objects))
    return sorted(name for name in names if _FLOAT_HELPER.fullmatch(name))


def code_of(data: bytes) -> list[tuple[str, int, bytes]]:
    """(architecture, address in its section, instructions) of every stretch of code.

    Raises:
        ElfError: no archive, one that is cut off, or an object for another architecture.
    """
    found = [stretch for member in _members(data) if member[:4] == b"\x7fELF" for stretch in _stretches(member)]
    if not found:
        raise ElfError("there is no code in it")
    return found


def _members(data: bytes) -> Iterator[bytes]:
    if not data.startswith(MAGIC):
        raise ElfError("not an ar archive")
    place = len(MAGIC)
    while place < len(data):
        header = data[place : place + _HEADER]
        digits = header[_SIZE_AT : _SIZE_AT + 10].strip()
        size = int(digits) if digits.isdigit() else -1
        start = place + _HEADER
        if not header.endswith(_END) or size < 0 or start + size > len(data):
            raise ElfError("the archive is cut off or damaged")
        yield data[start : start + size]
        place = start + size + size % 2


def _stretches(raw: bytes) -> Iterator[tuple[str, int, bytes]]:
    try:
        table, symbols = elf32.sections(raw), list(elf32.symbols(raw))
    except (struct.error, IndexError) as error:
        raise ElfError("an object in the archive is damaged") from error
    (machine,) = struct.unpack_from("<H", raw, _MACHINE_AT)
    arch = next((name for name, number in MACHINES.items() if number == machine), None)
    if arch is None:
        raise ElfError(f"ELF machine {machine}")
    for index, section in enumerate(table):
        if not section.flags & _EXECUTABLE or not section.size:
            continue
        named = [(s.value, s.name.partition(".")[0]) for s in symbols if s.section == index]
        marks = {value: _MAPPING[name] for value, name in named if name in _MAPPING}
        marks.setdefault(0, "")
        places = sorted(marks)
        for start, end in zip(places, [*places[1:], section.size], strict=True):
            kind = marks[start]
            if kind is not None and start < end <= section.size:
                yield kind or arch, start, raw[section.offset + start : section.offset + end]
