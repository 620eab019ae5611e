"""The little of ELF that artifacts need: an object that carries the image, and a check of what the linker made."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.artifact.format import ALIGNMENT

PT_LOAD, PT_DYNAMIC = 1, 2
PF_X, PF_W, PF_R = 1, 2, 4
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7": 40, "riscv64": 243}

NARROW = ("armv7",)  # architectures of 32 bits

_MODEL = 1  # number of the symbol `edgeq_model`

# What makes `symbol - place` at link time: (relocation type, whether it is about the place in the image instead of the
# symbol). RISC-V adds one and subtracts the other; Arm's is 32 bits wide and leaves the upper half of the place as it
# is, 0, so that code has to lie behind the image.
_DISTANCE = {
    "x86_64": ((24, False),),  # R_X86_64_PC64
    "aarch64": ((260, False),),  # R_AARCH64_PREL64
    "armv7": ((3, False),),  # R_ARM_REL32
    "riscv64": ((35, False), (39, True)),  # R_RISCV_ADD64, R_RISCV_SUB64
}
_HEADER_FLAGS = {"armv7": 0x05000000}  # EABI version 5
_ET_REL, _ET_DYN = 1, 3
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_REL = 1, 2, 3, 4, 9
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4


class _Width:
    """The structures of ELF-64 or ELF-32, which differ in the order of fields too."""

    def __init__(self, bits: int) -> None:
        wide = bits == 64
        self.wide, self.word = wide, bits // 8
        self.ehdr = struct.Struct("<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH")
        self.phdr = struct.Struct("<IIQQQQQQ" if wide else "<IIIIIIII")
        self.shdr = struct.Struct("<IIQQQQIIQQ" if wide else "<IIIIIIIIII")
        self.dyn = struct.Struct("<qQ" if wide else "<iI")
        self.relocation_size = len(self.relocation(0, 0, 0, 0))

    def symbol(self, name: int, info: int, other: int, section: int, size: int) -> bytes:
        """A symbol with value 0."""
        if self.wide:
            return struct.pack("<IBBHQQ", name, info, other, section, 0, size)
        return struct.pack("<IIIBBH", name, 0, size, info, other, section)

    def relocation(self, place: int, symbol: int, kind: int, addend: int) -> bytes:
        """With its addend where the width has one (an ELF-32 relocation finds it in place)."""
        if self.wide:
            return struct.pack("<QQq", place, symbol << 32 | kind, addend)
        return struct.pack("<II", place, symbol << 8 | kind)

    def segment(self, data: bytes | memoryview, at: int) -> Segment:
        """A program header."""
        if self.wide:
            kind, flags, offset, vaddr, _, filesz, memsz, align = self.phdr.unpack_from(data, at)
        else:
            kind, offset, vaddr, _, filesz, memsz, flags, align = self.phdr.unpack_from(data, at)
        return Segment(kind, flags, offset, vaddr, filesz, memsz, align)


_WIDTHS = {1: _Width(32), 2: _Width(64)}  # by EI_CLASS

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
    width = _WIDTHS[1 if arch in NARROW else 2]
    names = b"\0.rodata.edgeq\0.rela.rodata.edgeq\0.symtab\0.strtab\0.shstrtab\0.note.GNU-stack\0"
    hidden, global_object, global_any = 2, 0x11, 0x10
    symbols = b"\0edgeq_model\0"
    symtab = [width.symbol(0, 0, 0, 0, 0), width.symbol(1, global_object, 0, 1, len(image))]
    numbers: dict[str, int] = {}
    for symbol in dict.fromkeys(entries.values()):
        numbers[symbol] = len(symtab)
        symtab.append(width.symbol(len(symbols), global_any, hidden, 0, 0))
        symbols += symbol.encode() + b"\0"
    distances = [
        width.relocation(offset, _MODEL if from_image else numbers[symbol], kind, offset if from_image else 0)
        for offset, symbol in entries.items()
        for kind, from_image in _DISTANCE[arch]
    ]
    kind = _SHT_RELA if width.wide else _SHT_REL
    # name, type, flags, content, link, info, alignment, entry size
    sections = [
        (b".rodata.edgeq", _SHT_PROGBITS, _SHF_ALLOC, image, 0, 0, ALIGNMENT, 0),
        (b".rela.rodata.edgeq", kind, 0, b"".join(distances), 3, 1, 8, width.relocation_size),
        (b".symtab", _SHT_SYMTAB, 0, b"".join(symtab), 4, 1, 8, len(symtab[0])),
        (b".strtab", _SHT_STRTAB, 0, symbols, 0, 0, 1, 0),
        (b".shstrtab", _SHT_STRTAB, 0, names, 0, 0, 1, 0),
        (b".note.GNU-stack", _SHT_PROGBITS, 0, b"", 0, 0, 1, 0),
    ]
    body: list[bytes | bytearray] = []
    place = width.ehdr.size
    headers = [bytes(width.shdr.size)]
    for name, kind, flags, content, link, info, align, entry_size in sections:
        gap = -place % align
        body += [bytes(gap), content]
        place += gap
        at = names.index(b"\0" + name + b"\0") + 1
        headers.append(width.shdr.pack(at, kind, flags, 0, place, len(content), link, info, align, entry_size))
        place += len(content)
    gap = -place % 8
    ident = b"\x7fELF" + bytes([2 if width.wide else 1, 1, 1]) + bytes(9)
    flags = _HEADER_FLAGS.get(arch, 0)
    header = width.ehdr.pack(
        ident, _ET_REL, MACHINES[arch], 1, 0, 0, place + gap, flags, width.ehdr.size, 0, 0, width.shdr.size,
        len(headers), 5,
    )  # fmt: skip
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


def _width(data: bytes | memoryview) -> _Width:
    """By the file's class. Raises `ElfError` where it is no little-endian ELF file with a whole header."""
    head = bytes(data[:7])
    width = _WIDTHS.get(head[4]) if len(head) == 7 and head[:4] == b"\x7fELF" and head[5:] == b"\x01\x01" else None
    if width is None or len(data) < width.ehdr.size:
        raise ElfError("not a little-endian ELF file")
    return width


def parse(data: bytes | memoryview) -> Elf:
    """Headers of a shared object for artifacts. Raises `ElfError` where loaders would refuse it."""
    width = _width(data)
    _, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, *_ = width.ehdr.unpack_from(data)
    if kind != _ET_DYN or phentsize != width.phdr.size or not 1 <= phnum <= 16:
        raise ElfError("not a shared object with a plain program header table")
    if phoff > len(data) or phnum * width.phdr.size > len(data) - phoff:
        raise ElfError("the program header table is outside the file")
    segments = [width.segment(data, phoff + index * width.phdr.size) for index in range(phnum)]
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
    dyn = _width(data).dyn
    for segment in elf.segments:
        if segment.kind != PT_DYNAMIC:
            continue
        for place in range(segment.offset, segment.offset + segment.filesz, dyn.size):
            tag, value = dyn.unpack_from(data, place)
            if tag == 0:
                break
            if tag in _FORBIDDEN_TAGS and value:
                raise ElfError(f"the linked object has {_FORBIDDEN_TAGS[tag]}")


def code_size(data: bytes | memoryview) -> int:
    """Bytes of executable sections, by the section headers."""
    width = _width(data)
    _, _, _, _, _, _, shoff, _, _, _, _, _, shnum, _ = width.ehdr.unpack_from(data)
    total = 0
    for index in range(shnum):
        _, _, flags, _, _, size, *_ = width.shdr.unpack_from(data, shoff + index * width.shdr.size)
        total += size if flags & _SHF_EXECINSTR else 0
    return total
