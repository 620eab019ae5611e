"""AVX-VNNI's four instructions by their encoding: disassemblers learned them late (Intel's Software Developer's Manual,
volume 2C, VPDPBUSD: VEX.66.0F38.W0 50 … 53 /r)."""

from __future__ import annotations

_NAMES = {0x50: "vpdpbusd", 0x51: "vpdpbusds", 0x52: "vpdpwssd", 0x53: "vpdpwssds"}


def vnni(code: bytes | memoryview) -> tuple[int, str] | None:
    """(size, name) of the instruction at the beginning, or None where it is none of the four."""
    if len(code) < 5 or code[0] != 0xC4 or code[1] & 0x1F != 2 or code[2] & 0x83 != 1 or code[3] not in _NAMES:
        return None
    mode, base, size = code[4] >> 6, code[4] & 7, 5
    if mode != 3 and base == 4:  # a scale-index-base byte follows
        size += 1
        base = code[5] & 7 if len(code) > 5 else 0
    size += {1: 1, 2: 4}.get(mode, 4 if mode == 0 and base == 5 else 0)
    return (size, _NAMES[code[3]]) if len(code) >= size else None
