"""The little of ELF-64 that artifacts need: an object that carries the image, and a check of what the linker made."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.artifact.format import ALIGNMENT

PT_LOAD, PT_DYNAMIC = 1, 2
PF_X, PF_W, PF_R = 1, 2, 4
MACHINES = {"x86_64": 62, "aarch64": 183}

# R_X86_64_PC64, R_AARCH64_PREL64: 64-bit symbol + addend - place.
_PC64 = {"x86_64": 24, "aarch64": 260}
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_DYN = struct.Struct("<qQ")
_ET_REL, _ET_DYN = 1, 3
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA = 1, 2, 3, 4
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4

# Dynamic tags that make a loader do work an artifact must not need.
_FORBIDDEN_TAGS = {
    1: "DT_NEEDED (a library)",
    2: "DT_PLTRELSZ (calls through the PLT)",
    7: "DT_RELA (relocations)",
    12: "DT_INIT (an initializer)",
    13: "DT_FINI (a finalizer)",
    17: "DT_REL (relocations)",
    22: "DT_TEXTREL (relocations in code)",
    25: "DT_INIT_ARRAY (initializers)",
    26: "DT_FINI_ARRAY (finalizers)",
    36: "DT_RELR (relocations)",
}


class ElfError(ValueError):
    """The bytes aren't the ELF file they should be; the text says why."""


def image_object(arch: str, image: bytes | bytearray, entries: Mapping[int, str]) -> bytes:
    """A relocatable object that defines `edgeq_model` = `image` in `.rodata.edgeq`.

    Args:
        arch: a key of `MACHINES`.
        image: the bytes.
        entries: offset in the image → symbol; the 8 bytes there become the distance from there to that hidden symbol.

    Written here rather than by an assembler, so that weights of any size cost no process and no copy in a compiler's
    cache.
    """
    names = b"\0.rodata.edgeq\0.rela.rodata.edgeq\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack\0"
    hidden, global_object, global_any = 2, 0x11, 0x10
    symbols = b"\0edgeq_model\0"
    symtab = _SYM.pack(0, 0, 0, 0, 0, 0) + _SYM.pack(1, global_object, 0, 1, 0, len(image))
    numbers: dict[str, int] = {}
    for symbol in dict.fromkeys(entries.values()):
        numbers[symbol] = len(symtab) // _SYM.size
        symtab += _SYM.pack(len(symbols), global_any, hidden, 0, 0, 0)
        symbols += symbol.encode() + b"\0"
    rela = b"".join(_RELA.pack(offset, numbers[symbol] << 32 | _PC64[arch], 0) for offset, symbol in entries.items())
    # name, type, flags, content, link, info, alignment, entry size
    sections = [
        (b".rodata.edgeq", _SHT_PROGBITS, _SHF_ALLOC, image, 0, 0, ALIGNMENT, 0),
        (b".rela.rodata.edgeq", _SHT_RELA, 0, rela, 3, 1, 8, _RELA.size),
        (b".symtab", _SHT_SYMTAB, 0, symtab, 4, 1, 8, _SYM.size),
        (b".strtab", _SHT_STRTAB, 0, symbols, 0, 0, 1, 0),
        (b".shstrtab", _SHT_STRTAB, 0, names, 0, 0, 1, 0),
        (b".note.GNU-stack", _SHT_PROGBITS, 0, b"", 0, 0, 1, 0),
    ]
    body: list[bytes | bytearray] = []
    place = _EHDR.size
    headers = [bytes(_SHDR.size)]
    for name, kind, flags, content, link, info, align, entry_size in sections:
        gap = -place % align
        body += [bytes(gap), content]
        place += gap
        at = names.index(b"\0" + name + b"\0") + 1
        headers.append(_SHDR.pack(at, kind, flags, 0, place, len(content), link, info, align, entry_size))
        place += len(content)
    gap = -place % 8
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = _EHDR.pack(
        ident, _ET_REL, MACHINES[arch], 1, 0, 0, place + gap, 0, _EHDR.size, 0, 0, _SHDR.size, len(headers), 5
    )
    return b"".join([header, *body, bytes(gap), *headers])


@dataclass(frozen=True)
class Segment:
    """One program header, in file bytes and virtual addresses."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


@dataclass(frozen=True)
class Elf:
    """A linked artifact's headers."""

    machine: int
    entry: int
    segments: tuple[Segment, ...]

    def loads(self) -> list[Segment]:
        """The segments that are mapped."""
        return [segment for segment in self.segments if segment.kind == PT_LOAD]

    def file_offset(self, vaddr: int, size: int, flags: int) -> int:
        """File offset of `size` bytes at `vaddr`, which must lie inside one mapped segment that has `flags`."""
        for segment in self.loads():
            inside = segment.vaddr <= vaddr and vaddr + size <= segment.vaddr + segment.filesz
            if inside and segment.flags & flags == flags:
                return segment.offset + vaddr - segment.vaddr
        raise ElfError(f"{size} bytes at address {vaddr:#x} aren't inside a segment with the right access")


def parse(data: bytes | memoryview) -> Elf:
    """Headers of a shared object for artifacts. Raises `ElfError` where loaders would refuse it."""
    if len(data) < _EHDR.size or bytes(data[:7]) != b"\x7fELF\x02\x01\x01":
        raise ElfError("not a 64-bit little-endian ELF file")
    _, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(data)
    if kind != _ET_DYN or phentsize != _PHDR.size or not 1 <= phnum <= 16:
        raise ElfError("not a shared object with a plain program header table")
    if phoff > len(data) or phnum * _PHDR.size > len(data) - phoff:
        raise ElfError("the program header table is outside the file")
    segments = []
    for index in range(phnum):
        kind, flags, offset, vaddr, _, filesz, memsz, align = _PHDR.unpack_from(data, phoff + index * _PHDR.size)
        segments.append(Segment(kind, flags, offset, vaddr, filesz, memsz, align))
    elf = Elf(machine, entry, tuple(segments))
    _check_loads(elf.loads(), len(data))
    return elf


def _check_loads(loads: list[Segment], size: int) -> None:
    if not 1 <= len(loads) <= 8:
        raise ElfError(f"{len(loads)} segments to map")
    previous_end = 0
    for segment in loads:
        if segment.offset > size or segment.filesz > size - segment.offset:
            raise ElfError("a segment reaches behind the end of the file")
        if segment.flags & PF_W:
            raise ElfError("a writable segment")
        if segment.filesz != segment.memsz or segment.filesz == 0 or segment.vaddr + segment.memsz >= 1 << 40:
            raise ElfError("a segment with memory that isn't in the file")
        align = segment.align
        if align < 4096 or align & (align - 1) or (segment.vaddr - segment.offset) % align:
            raise ElfError("a segment that can't be mapped in pages")
        if segment.vaddr // align * align < previous_end:
            raise ElfError("segments that overlap or aren't in order")
        previous_end = segment.vaddr + segment.memsz


def check_relocation_free(data: bytes | memoryview, elf: Elf) -> None:
    """Raises `ElfError` if a loader would have to bind or run anything before the code can be called."""
    for segment in elf.segments:
        if segment.kind != PT_DYNAMIC:
            continue
        for place in range(segment.offset, segment.offset + segment.filesz, _DYN.size):
            tag, value = _DYN.unpack_from(data, place)
            if tag == 0:
                break
            if tag in _FORBIDDEN_TAGS and value:
                raise ElfError(f"the linked object has {_FORBIDDEN_TAGS[tag]}")


def code_size(data: bytes | memoryview) -> int:
    """Bytes of executable sections, by the section headers."""
    shoff, shnum = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    total = 0
    for index in range(shnum):
        _, _, flags, _, _, size, *_ = _SHDR.unpack_from(data, shoff + index * _SHDR.size)
        total += size if flags & _SHF_EXECINSTR else 0
    return total
