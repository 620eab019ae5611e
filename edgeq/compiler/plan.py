"""Where every buffer lies in the arena: offsets over lifetimes.

Interval packing is NP-hard; several greedy orders are cheap, so all are tried and the smallest arena wins. The lower
bound (the fullest moment) is reported beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeq.compiler.hot import choose_hot
from edgeq.compiler.program import Program

FOREVER = 1 << 30


@dataclass(frozen=True)
class Lifetime:
    """Steps (inclusive) during which a buffer holds something that matters, and the bytes it takes."""

    index: int
    first: int
    last: int
    size: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets of all buffers (bytes, by buffer index), the arena's size, and what can't be beaten.

    Attributes:
        fast: buffers that lie in the second arena, in fast memory; their offsets count from its start.
        fast_size: bytes of that arena.
    """

    offsets: list[int]
    size: int
    lower_bound: int
    lifetimes: list[Lifetime]
    fast: frozenset[int] = frozenset()
    fast_size: int = 0


def lifetimes(program: Program) -> list[Lifetime]:
    """When each buffer is alive. Inputs live from before the first step, outputs until after the last."""
    first = [FOREVER] * len(program.buffers)
    last = [-1] * len(program.buffers)
    for number, step in enumerate(program.steps):
        for index in (*step.reads, *step.writes):
            first[index] = min(first[index], number)
            last[index] = max(last[index], number)
    result = []
    for index, buffer in enumerate(program.buffers):
        begin = -1 if buffer.role == "input" else first[index]
        end = FOREVER if buffer.role == "output" else last[index]
        if begin == FOREVER:
            begin = end = 0  # never touched: an unread input keeps its place, anything else costs a cache line
        result.append(Lifetime(index, begin, max(begin, end), buffer.footprint(program.alignment)))
    return result


def plan_memory(program: Program) -> Plan:
    """Places all buffers; deterministic. Where the program has `fast_room`, hot buffers go there."""
    lives = lifetimes(program)
    room = program.fast_room - program.end_slack
    hot = choose_hot(program, lives, room) if room > 0 else {}
    rest = [life for life in lives if life.index not in hot]
    orders: list[Callable[[Lifetime], tuple[int, ...]]] = [
        lambda b: (-b.size, b.first, b.index),
        lambda b: (-b.size * (min(b.last, len(program.steps)) - b.first + 1), b.index),
        lambda b: (b.first, -b.size, b.index),
        lambda b: (-(min(b.last, len(program.steps)) - b.first), -b.size, b.index),
    ]
    placings = (_first_fit(sorted(rest, key=order), program.alignment) for order in orders)
    offsets, size = min(placings, key=lambda placed: placed[1])
    offsets = {**offsets, **hot}
    fast_size = max((offset + lives[index].size for index, offset in hot.items()), default=0)
    bound = _fullest(rest, len(program.steps))
    return Plan([offsets[i] for i in range(len(lives))], size, bound, lives, frozenset(hot), fast_size)


def _first_fit(order: list[Lifetime], alignment: int) -> tuple[dict[int, int], int]:
    """Each buffer at the lowest offset that no living neighbour covers."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[int, int] = {}
    for buffer in order:
        offset = lowest_offset(buffer, placed)
        offsets[buffer.index] = offset
        placed.append((offset, buffer))
        placed.sort(key=lambda entry: entry[0])
    size = max((start + b.size for start, b in placed), default=0)
    return offsets, -(-size // alignment) * alignment


def lowest_offset(buffer: Lifetime, placed: list[tuple[int, Lifetime]]) -> int:
    """The lowest offset at which no living neighbour lies; `placed` is sorted by offset."""
    offset = 0
    for start, other in placed:
        if other.overlaps(buffer):
            if offset + buffer.size <= start:
                break
            offset = max(offset, start + other.size)
    return offset


def _fullest(lives: list[Lifetime], steps: int) -> int:
    """Bytes alive at the fullest step: no plan can be smaller."""
    return max(
        (sum(b.size for b in lives if b.first <= moment <= b.last) for moment in range(-1, steps + 1)), default=0
    )
