"""Estimated cycles of Cortex-M cores: what each instruction of an executed block takes, by kind, after the core's
technical reference manual as far as it says so.

An estimate: memory answers at once (no flash wait states, no caches), branches are taken, values are ready when they
are needed. Compare estimates of one core with each other only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgeq.artifact import thumb_code
from edgeq.errors import RunError, ToolError


@dataclass(frozen=True)
class Core:
    """Cycles by kind of instruction; all others take one.

    Attributes:
        load, next_load: alone, and right behind another load or store.
        store, branch, long_multiply, divide: the last two of 64 bits' results and of typical operands.
        pairs: two neighbours may start together (Cortex-M7), if they aren't of one of the kinds memory, multiplication
            and branch both, and the second doesn't read what the first writes.
        beats: cycles of a vector instruction (MVE); neighbours of different kinds overlap by half.
    """

    load: int = 2
    next_load: int = 1
    store: int = 1
    branch: int = 3
    long_multiply: int = 1
    divide: int = 7
    pairs: bool = False
    beats: int = 2


# By `mcpu` of target.toml. Arm publishes cycles of M0+ and M4; the others follow descriptions of their pipelines.
CORES = {
    "cortex-m0plus": Core(load=2, next_load=2, store=2, branch=2),
    "cortex-m4": Core(),
    "cortex-m33": Core(load=2, next_load=1, branch=3),
    "cortex-m7": Core(load=1, branch=1, long_multiply=1, divide=8, pairs=True),
    "cortex-m55": Core(load=1, branch=2, long_multiply=2),
}
_MEMORY = re.compile(r"(?:v?ldr|v?str|v?ldm|v?stm|v?push|v?pop|ldrd|strd|tb[bh])\w*")
_STORE = re.compile(r"(?:v?str|v?stm|v?push|strd)\w*")
_SEVERAL = re.compile(r"(?:v?ldm|v?stm|v?push|v?pop)\w*")
_MULTIPLY = re.compile(r"(?:mul|mla|mls|smla|smul|umul|umla|smus|smuad|smml|smmu|umaal)\w*")
_LONG = re.compile(r"(?:[us]m(?:ull|lal)|umaal)\w*")
_DIVIDE = re.compile(r"[us]div")
_CONDITION = r"(?:eq|ne|[ch]s|cc|lo|mi|pl|v[sc]|hi|ls|ge|lt|gt|le)?"
_BRANCH = re.compile(rf"(?:b{_CONDITION}|bl|bx{_CONDITION}|blx|cbn?z|tb[bh])(?:\.[nw])?")
_LOOP = 0xF000C001  # le, letp, wls, dls: no cost of their own


@dataclass(frozen=True)
class _Instruction:
    kind: str  # memory, multiply, branch, vector memory, vector, loop, other
    cycles: int
    reads: frozenset[int]
    writes: frozenset[int]


def estimate(profile: str, mcpu: str, counts: Sequence[int]) -> list[int] | None:
    """Cycles of each marked region; None where nothing is known about the core.

    Args:
        profile: what the counting plugin wrote to `blocks=`.
        mcpu: of target.toml.
        counts: instructions of each region; those that no block explains take a cycle each.

    Raises:
        RunError: the profile is damaged. ToolError: the disassembler is missing.
    """
    core = CORES.get(mcpu)
    if core is None:
        return None
    cycles, left = [0.0] * len(counts), list(counts)
    try:
        for line in profile.splitlines():
            region, runs, text = line.split(" ")
            if int(region) >= len(counts):
                continue
            code = tuple(bytes.fromhex(part) for part in text.split("."))
            cycles[int(region)] += int(runs) * block_cycles(code, core)
            left[int(region)] -= int(runs) * len(code)
    except ValueError as error:
        raise RunError("the profile of executed blocks is damaged", why=str(error)) from error
    return [round(own + rest) for own, rest in zip(cycles, left, strict=True)]


@lru_cache(maxsize=4096)
def block_cycles(code: tuple[bytes, ...], core: Core) -> float:
    """Cycles of one run of a block of Thumb instructions."""
    total, paired = 0.0, False
    behind: _Instruction | None = None
    for one in _decoded(code, core):
        if one.kind == "loop":
            behind = None
            continue
        cost = float(one.cycles)
        vector = one.kind.startswith("vector")
        if behind is not None:
            if one.kind == behind.kind == "memory" and cost == core.load:
                cost = core.next_load
            if vector and behind.kind.startswith("vector") and one.kind != behind.kind:
                cost /= 2
            if core.pairs and not paired and cost == behind.cycles == 1 and _independent(behind, one):
                behind, paired = one, True
                continue
        total, behind, paired = total + cost, one, False
    return total


def _independent(first: _Instruction, second: _Instruction) -> bool:
    alike = first.kind == second.kind != "other"
    return first.kind != "branch" and not alike and not first.writes & second.reads


def _decoded(code: Iterable[bytes], core: Core) -> Iterator[_Instruction]:
    machine = _disassembler()
    for raw in code:
        _, size, word = next(thumb_code.instructions(raw), (0, 0, 0))
        if size == 4 and word & 0xF800D001 == _LOOP:
            yield _Instruction("loop", 0, frozenset(), frozenset())
            continue
        if thumb_code.is_shared(size, word) and not _is_scalar(word):
            kind = "vector memory" if word & 0xEE000000 == 0xEC000000 else "vector"
            yield _Instruction(kind, core.beats, frozenset(), frozenset())
            continue
        found = next(machine.disasm(raw[:size], 0), None)
        if found is None:
            yield _Instruction("other", 1, frozenset(), frozenset())
            continue
        kind, cycles = _cost(found.mnemonic, found.op_str, core)
        reads, writes = found.regs_access()
        yield _Instruction(kind, cycles, frozenset(reads), frozenset(writes))


def _is_scalar(word: int) -> bool:
    """Floating-point registers s and d: coprocessors 10 and 11, outside what MVE added there."""
    return word >> 8 & 0xE == 0xA


def _cost(mnemonic: str, operands: str, core: Core) -> tuple[str, int]:
    """(kind, cycles) of a scalar instruction."""
    if _BRANCH.fullmatch(mnemonic) or (mnemonic.startswith("pop") and "pc" in operands):
        return "branch", core.branch + (operands.count(",") + 1 if mnemonic.startswith("pop") else 0)
    if _MEMORY.fullmatch(mnemonic):
        if _SEVERAL.fullmatch(mnemonic) or mnemonic.startswith(("ldrd", "strd")):
            return "memory", 1 + max(2, operands.count(",") + 1 if _SEVERAL.fullmatch(mnemonic) else 2)
        return "memory", core.store if _STORE.fullmatch(mnemonic) else core.load
    if _DIVIDE.fullmatch(mnemonic):
        return "multiply", core.divide
    if _MULTIPLY.fullmatch(mnemonic):
        return "multiply", core.long_multiply if _LONG.fullmatch(mnemonic) else 1
    return "other", 1


@lru_cache(maxsize=1)
def _disassembler() -> Any:
    try:
        import capstone
    except ImportError as error:
        raise ToolError("estimating cycles needs Capstone", why=str(error), hint="pip install capstone") from error
    machine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8)
    machine.detail = True
    return machine
