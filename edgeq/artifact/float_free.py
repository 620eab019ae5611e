"""Does an artifact's machine code compute with floating-point numbers? Every executable byte is disassembled.

Vector registers serve integers and floats alike, and compilers move and shuffle integers with instructions that are
named after floats (`movups`, `vpermilps`, `fmov`). So instructions are told apart by what they do to the bits:

x86-64: every instruction with a vector or mask register must belong to one of these classes, anything else counts as
floating point (also what this list doesn't know yet):

- integer SIMD: names that begin with `p` or `vp` (not 3DNow!'s `pf…`), byte sums, Galois fields, AES, SHA;
- moves, loads, stores, broadcasts, inserts, extracts, gathers, scatters, compress and expand;
- shuffles, permutes, blends, alignments; bitwise logic; mask registers' own instructions; `vzeroupper`.

All x87, MMX-float and 3DNow! instructions, conversions, comparisons, and reads or writes of the float control register
are floating point.

aarch64: names are systematic: `f…` and `bf…` (not the bit fields), `scvtf`, `ucvtf` and whatever else contains `cvt`
are floating point; `fmov` and `fcsel`, which copy bits, are not.

armv7: a type behind the name says it (`vadd.f32`, `vcvt.s32.f32`); `vmov`, `vldr`, `vstr`, `vpush`, `vpop`, which copy
bits, are not.

thumb, with or without MVE: by encoding (`thumb_code.py`), of which a list of what is integer is exempt.

riscv64: by encoding (`riscv_code.py`); loads, stores and moves of floating-point registers count too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgeq.artifact import arm_code, elf, riscv_code, static_code, thumb_code, x86_code
from edgeq.cache import cached_file, content_key
from edgeq.errors import ArtifactError, ToolError

SHOWN = 4  # offenders that a message lists

_X86_VECTOR = re.compile(r"\b(?:[xyz]?mm\d+|k[0-7]|st\(\d\))")
_X86_INTEGER_SIMD = re.compile(r"v?p(?!f)\w+|vdbpsadbw|v?mpsadbw|vgf2p8\w+|gf2p8\w+|v?aes\w+|sha(1|256)\w+")
_X86_MOVES = re.compile(
    r"v?mov\w+|v?lddqu|v?maskmov\w+|v?broadcast\w+|v?insert\w+|v?extract\w+"
    r"|v?(?:gather|scatter)(?:pf\d)?[dq]p[sd]|v?(?:compress|expand)p[sd]"
)
_X86_SHUFFLES = re.compile(
    r"v?shuf[fi]?(?:p[sd]|32x4|64x2)|v?unpck[lh]p[sd]|v?perm\w+|v?blend\w+|valign[dq]|v?testp[sd]"
)
_X86_LOGIC = re.compile(r"v?(?:and|andn|or|xor)p[sd]|vzero(?:upper|all)")
_X86_MASKS = re.compile(r"k(?:mov|and|andn|or|xor|xnor|not|unpck|shiftl|shiftr|add|test|ortest)\w+")
_X86_ALLOWED = (_X86_INTEGER_SIMD, _X86_MOVES, _X86_SHUFFLES, _X86_LOGIC, _X86_MASKS)
# Without a register operand that gives them away.
_X86_FLOAT = re.compile(r"f\w+|wait|v?(?:ld|st)mxcsr|emms|pf\w+|pi2f\w+|v?cvt\w+")

_ARM_MOVES = {"fmov", "fcsel"}
_ARM_FLOAT = re.compile(r"f\w+|bf(?!i$|m$|c$|xil$)\w+|\w*cvt\w*")
_ARMV7_FLOAT = re.compile(
    r"(?!vmov\b|vldr\b|vstr\b|vpush\b|vpop\b)\w+(?:\.\w+)*\.(?:b?f16|f32|f64)(?:\.\w+)*|vcvt\w*.*"
)


@dataclass(frozen=True)
class FloatInstruction:
    """One offender.

    Attributes:
        address: in the mapped artifact.
        text: mnemonic and operands.
    """

    address: int
    text: str

    def __str__(self) -> str:
        return f"{self.address:#x}: {self.text}"


@dataclass(frozen=True)
class FloatCheck:
    """What was found.

    Attributes:
        instructions: disassembled.
        found: floating-point instructions, in order.
    """

    instructions: int
    found: tuple[FloatInstruction, ...]


def is_float(arch: str, mnemonic: str, operands: str) -> bool:
    """Whether one instruction computes with floats, by the classes of the module's text.

    Args:
        arch: x86_64, aarch64 or armv7.
        mnemonic, operands: as Capstone prints them.
    """
    if arch == "aarch64":
        return mnemonic not in _ARM_MOVES and _ARM_FLOAT.fullmatch(mnemonic) is not None
    if arch == "armv7":
        return _ARMV7_FLOAT.fullmatch(mnemonic) is not None
    name = mnemonic.rpartition(" ")[2]  # without `rep`, `lock`
    if _X86_FLOAT.fullmatch(name):
        return True
    vector = _X86_VECTOR.search(operands) is not None
    return vector and not any(allowed.fullmatch(name) for allowed in _X86_ALLOWED)


def check(path: str | Path) -> FloatCheck:
    """Disassemble the executable segments of an artifact.

    Args:
        path: an artifact, any shared object for one of its architectures, or a static library.

    Raises:
        ArtifactError: it isn't an ELF file for one of them, or a part of its code is no instruction.
        ToolError: the disassembler is missing.
    """
    count, found = 0, []
    for arch, start, code in _code(Path(path)):
        for address, text, floats in _instructions(arch, code, start, str(path)):
            count += 1
            if floats:
                found.append(FloatInstruction(address, text))
    data = Path(path).read_bytes()
    if data.startswith(static_code.MAGIC):
        found += [FloatInstruction(0, f"call of {name}") for name in static_code.float_helpers(data)]
    return FloatCheck(count, tuple(found))


def require(path: str | Path) -> FloatCheck:
    """As `check`, but floating-point instructions are an error.

    Raises:
        ArtifactError: there are some; the message lists the first.
    """
    result = check(path)
    if result.found:
        more = "" if len(result.found) <= SHOWN else f", and {len(result.found) - SHOWN} more"
        raise ArtifactError(
            f"the code computes with floating-point numbers: {len(result.found)} instructions",
            where=str(path),
            why="; ".join(str(one) for one in result.found[:SHOWN]) + more,
            hint="an artifact of an integer-only graph must not: please report the model and the target",
        )
    return result


def require_once(path: str | Path) -> FloatCheck:
    """As `require`, for files that were just linked: the same code that passed before isn't disassembled again.

    Raises:
        ArtifactError: as `require`. ToolError: as `check`, or the cache can't be written.
    """
    parts = _code(Path(path))
    checkers = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    places = [f"{arch} {address:#x}" for arch, address, _ in parts]
    try:
        disassembler = version("capstone")
    except PackageNotFoundError:
        return require(path)  # says what is missing
    data = Path(path).read_bytes()
    called = static_code.float_helpers(data) if data.startswith(static_code.MAGIC) else []
    key = content_key([disassembler, *called, *checkers, *places, *(code for _, _, code in parts)])
    fresh: list[FloatCheck] = []

    def passed(made: Path) -> None:
        fresh.append(require(path))
        made.write_text(str(fresh[0].instructions), encoding="ascii")

    known = cached_file("float-free", "instructions", key, passed)
    text = known.read_bytes()
    return fresh[0] if fresh else FloatCheck(int(text), ()) if text.isdigit() else require(path)


def _code(path: Path) -> list[tuple[str, int, bytes]]:
    """Architecture, address and bytes of every executable segment, or stretch of code of a static library."""
    data = path.read_bytes()
    try:
        if data.startswith(static_code.MAGIC):
            return static_code.code_of(data)
        headers = elf.parse(data)
    except elf.ElfError as error:
        raise ArtifactError("the code can't be checked", where=str(path), why=str(error)) from error
    names = {number: name for name, number in elf.MACHINES.items()}
    arch = names.get(headers.machine)
    if arch is None:
        raise ArtifactError("the code can't be checked", where=str(path), why=f"ELF machine {headers.machine}")
    segments = [segment for segment in headers.loads() if segment.flags & elf.PF_X]
    return [(arch, each.vaddr, data[each.offset : each.offset + each.filesz]) for each in segments]


def _instructions(arch: str, code: bytes, address: int, where: str) -> Iterator[tuple[int, str, bool]]:
    """(address, text, whether it is floating point) of every instruction. A gap is an error: nothing goes unseen."""
    for start, end in arm_code.spans(code) if arch == "armv7" else ((0, len(code)),):
        place = start
        for at, size, text, floats in _decoded(arch, code[start:end]):
            place = start + at + size
            yield address + start + at, text, floats
        if place < end:
            raise ArtifactError(
                "a part of the code is no instruction that the disassembler knows",
                where=f"{where}, address {address + place:#x}",
                why=f"the bytes are {code[place : place + 8].hex(' ')}",
                hint="a newer Capstone may know it: pip install -U capstone",
            )


def _decoded(arch: str, code: bytes) -> Iterator[tuple[int, int, str, bool]]:
    """(place, size, text, whether it is floating point) up to what is no instruction."""
    if arch == "riscv64":
        for place, size, floats in riscv_code.instructions(code):
            yield place, size, code[place : place + size][::-1].hex(), floats
        return
    if arch == "thumb":
        yield from _thumb(code)
        return
    machine, end = _disassembler(arch), 0
    while True:
        for place, size, mnemonic, operands in machine.disasm_lite(code[end:], end):
            end = place + size
            yield place, size, f"{mnemonic} {operands}".strip(), is_float(arch, mnemonic, operands)
        unknown = x86_code.vnni(code[end : end + 16]) if arch == "x86_64" else None
        if unknown is None:
            return
        yield end, unknown[0], unknown[1], False
        end += unknown[0]


def _thumb(code: bytes) -> Iterator[tuple[int, int, str, bool]]:
    machine = _disassembler("thumb")
    for place, size, word in thumb_code.instructions(code):
        shared = thumb_code.is_shared(size, word)
        text = next((f"{x[2]} {x[3]}".strip() for x in machine.disasm_lite(code[place : place + size], place)), None)
        if text is None and not shared and not thumb_code.is_late(size, word):
            return
        # Capstone 5 has no MVE: some of these words it takes for another processor's.
        known = f"{word:08x}" if text is None else f"{text} ({word:08x})" if shared else text
        yield place, size, known, shared and not thumb_code.is_integer(word)


def _disassembler(arch: str) -> Any:
    try:
        import capstone
    except ImportError as error:
        raise ToolError(
            "the float check needs the disassembler Capstone", why=str(error), hint="pip install capstone"
        ) from error
    if arch == "armv7":
        return capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM)
    if arch == "thumb":
        modes = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
        return capstone.Cs(capstone.CS_ARCH_ARM, modes)
    if arch == "aarch64":
        return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
