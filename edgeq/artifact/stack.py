"""How much stack the code of a static library can take: a bound, read from its instructions.

Generated code has no recursion and no calls through pointers, and takes its stack in steps of constant size. So a
function's frame is at most the sum of everything it ever takes, and a run needs at most the entry's frame, the largest
kernel's, the largest of those that kernels call, and what the C library's memcpy may take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.artifact import elf32
from edgeq.errors import CompileError

LIBRARY_BYTES = 32  # of memcpy, memset and libgcc's integer helpers
_FUNCTION = 2
_MACHINE_AT = 18
_ARM, _X86_64, _AARCH64 = 40, 62, 183

_PUSH = {"push", "push.w", "stmdb", "stmdb.w", "vpush"}
_PRE_DECREMENT = re.compile(r"\[(?:sp), #-(0x[0-9a-f]+|\d+)\]!")
_SUBTRACT = re.compile(r"(?:sp, )?(?:sp|rsp), #?(0x[0-9a-f]+|\d+)(?:, lsl #(\d+))?$")


def stack_bytes(path: Path, entry: str) -> int:
    """Most stack bytes that a call of `entry` takes.

    Args:
        path: relocatable object with the entry, the kernels and what they call.
        entry: the function that calls the kernels.

    Raises:
        CompileError: a function takes stack by an amount that isn't a constant.
    """
    raw = path.read_bytes()
    frames = {name: _frame(name, code, raw) for name, code in _functions(raw)}
    outside = LIBRARY_BYTES if elf32.undefined_symbols(raw) else 0
    helpers = [size for name, size in frames.items() if name.startswith("edgeq_")]
    kernels = [size for name, size in frames.items() if name != entry and not name.startswith("edgeq_")]
    return frames[entry] + max(kernels, default=0) + max(helpers, default=0) + outside


def _functions(raw: bytes) -> Iterator[tuple[str, bytes]]:
    table = elf32.sections(raw)
    for symbol in elf32.symbols(raw):
        if symbol.info & 15 == _FUNCTION and symbol.section and symbol.name:
            start = table[symbol.section].offset + (symbol.value & ~1 if _machine(raw) == _ARM else symbol.value)
            yield symbol.name, raw[start : start + symbol.size]


def _machine(raw: bytes) -> int:
    return int.from_bytes(raw[_MACHINE_AT : _MACHINE_AT + 2], "little")


def _disassembler(raw: bytes) -> Any:
    import capstone as cs

    machine = _machine(raw)
    if machine == _ARM:
        engine = cs.Cs(cs.CS_ARCH_ARM, cs.CS_MODE_THUMB | cs.CS_MODE_MCLASS)
    elif machine == _AARCH64:
        engine = cs.Cs(cs.CS_ARCH_AARCH64 if hasattr(cs, "CS_ARCH_AARCH64") else cs.CS_ARCH_ARM64, cs.CS_MODE_ARM)
    elif machine == _X86_64:
        engine = cs.Cs(cs.CS_ARCH_X86, cs.CS_MODE_64)
    else:
        raise CompileError("stack use can't be read from this processor's code", why=f"ELF machine {machine}")
    engine.skipdata = True  # constant pools between instructions
    return engine


def _frame(name: str, code: bytes, raw: bytes) -> int:
    """Everything a function ever subtracts from its stack pointer; return addresses on the stack included."""
    wide = _machine(raw) == _X86_64
    total = 8 if wide else 0
    for _, _, mnemonic, operands in _disassembler(raw).disasm_lite(code, 0):
        if mnemonic in _PUSH and (wide or mnemonic in ("push", "push.w", "vpush") or operands.startswith("sp!")):
            total += 8 if wide else _registers(operands)
        elif found := _PRE_DECREMENT.search(operands):
            total += int(found[1], 0)
        elif mnemonic.startswith("sub") and re.match(r"(sp|rsp)\b", operands):
            constant = _SUBTRACT.match(operands)
            if constant is None:
                raise CompileError(
                    "stack use isn't bounded", where=f"kernel {name}", why=f"{mnemonic} {operands} takes what it likes"
                )
            total += int(constant[1], 0) << int(constant[2] or 0)
    return total


def _registers(operands: str) -> int:
    """Bytes of a register list such as `{r4, r5, r7-r9, lr}` or `{d8, d9}`."""
    total = 0
    for part in operands[operands.index("{") + 1 : operands.index("}")].split(","):
        first, _, last = part.strip().partition("-")
        count = int(re.sub(r"\D", "", last)) - int(re.sub(r"\D", "", first)) + 1 if last else 1
        total += count * {"d": 8, "q": 16}.get(first[0], 4)
    return total
