"""Which buffers go into a second, fast memory: those that are touched most often for the bytes they take.

A microcontroller's tightly coupled memory is small and answers in one cycle; other memories answer later or through a
cache. Accesses aren't counted but estimated from the steps: that ranks buffers, it is no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeq.compiler.plan import Lifetime
    from edgeq.compiler.program import Program

# A value that is loaded serves about this many multiply-accumulates: kernels keep a tile of sums in registers.
MACS_A_LOAD = 8


def accesses(program: Program) -> list[int]:
    """Bytes of every buffer that one inference reads and writes, estimated."""
    totals = [0] * len(program.buffers)
    for step in program.steps:
        read, written = set(step.reads), set(step.writes)
        for index in read | written:
            buffer = program.buffers[index]
            used_again = step.macs // MACS_A_LOAD if index in read or buffer.role == "scratch" else 0
            totals[index] += max(buffer.size, used_again)
    return totals


def movable(program: Program) -> set[int]:
    """Buffers that may lie anywhere: inputs and outputs stay where the caller looks for them."""
    fixed = {tensor.view.buffer for tensor in (*program.inputs, *program.outputs) if tensor.view.region == "arena"}
    return {index for index, buffer in enumerate(program.buffers) if buffer.size and index not in fixed}


def choose_hot(program: Program, lives: list[Lifetime], room: int) -> dict[int, int]:
    """Buffers for the fast memory and their offsets there, hottest first as long as they fit `room` bytes."""
    touched, free = accesses(program), movable(program)
    order = sorted(
        (life for life in lives if life.index in free and life.size),
        key=lambda life: (-touched[life.index] / life.size, life.index),
    )
    placed: list[tuple[int, Lifetime]] = []
    for life in order:
        offset = lowest_offset(life, placed)
        if offset + life.size <= room:
            placed.append((offset, life))
            placed.sort(key=lambda entry: entry[0])
    return {life.index: offset for offset, life in placed}


def lowest_offset(buffer: Lifetime, placed: list[tuple[int, Lifetime]]) -> int:
    """The lowest offset at which no living neighbour lies; `placed` is sorted by offset."""
    offset = 0
    for start, other in placed:
        if other.overlaps(buffer):
            if offset + buffer.size <= start:
                break
            offset = max(offset, start + other.size)
    return offset
