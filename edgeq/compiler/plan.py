"""Where every buffer lies in the arena: offsets over lifetimes.

Interval packing is NP-hard; several greedy orders are cheap, so all are tried, and the best is bettered by placing what
lies on top earlier, until the arena is as small as the fullest moment (the lower bound) or MOVES are done. A buffer may
consist of parts that are alive at different times (rows that are written or read one after the other): others may lie
where a part isn't alive yet, or not any more.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeq.compiler.hot import choose_hot
from edgeq.compiler.program import Buffer, Program
from edgeq.compiler.spans import spans

FOREVER = 1 << 30
MOVES = 40


@dataclass(frozen=True)
class Lifetime:
    """Steps (inclusive) during which a buffer, or a part of it, holds something that matters.

    Attributes:
        index: of the buffer.
        size: bytes; start: where the part begins in its buffer.
    """

    index: int
    first: int
    last: int
    size: int
    start: int = 0

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Offsets of all buffers (bytes, by buffer index), the arena's size, and what can't be beaten.

    Attributes:
        lifetimes: of all buffers, part by part.
        fast: buffers that lie in the second arena, in fast memory; their offsets count from its start.
        fast_size: bytes of that arena.
    """

    offsets: list[int]
    size: int
    lower_bound: int
    lifetimes: list[Lifetime]
    fast: frozenset[int] = frozenset()
    fast_size: int = 0

    def alive(self, steps: int) -> list[int]:
        """Bytes of the arena that are alive during each of the first `steps` steps; a second arena's don't count."""
        lives = [life for life in self.lifetimes if life.index not in self.fast]
        return _alive(lives, steps)[1 : steps + 1]


def lifetimes(program: Program) -> list[Lifetime]:
    """When each buffer is alive, part by part. Inputs live from before the first step, outputs until after the last."""
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
        whole = Lifetime(index, begin, max(begin, end), buffer.footprint(program.alignment))
        result += _parts(whole, buffer, program) if program.touches.get(index) else [whole]
    return result


def lower_bound(program: Program) -> int:
    """Most bytes that are alive at once: what no plan can beat."""
    return max(_alive(lifetimes(program), len(program.steps)), default=0)


def _parts(whole: Lifetime, buffer: Buffer, program: Program) -> list[Lifetime]:
    """A buffer's parts; what lies behind its data lives as long as its last part."""
    found = spans(buffer.size, program.touches[whole.index])
    parts: list[Lifetime] = []
    for number, span in enumerate(found):
        stop = whole.size if number == len(found) - 1 else found[number + 1].start
        begin = whole.first if buffer.role == "input" else span.first
        end = whole.last if buffer.role == "output" else span.last
        end = max(begin, end)
        if parts and (parts[-1].first, parts[-1].last) == (begin, end):
            parts[-1] = replace(parts[-1], size=stop - parts[-1].start)
        else:
            parts.append(Lifetime(whole.index, begin, end, stop - span.start, span.start))
    return parts


def plan_memory(program: Program, enough: int = 0) -> Plan:
    """Places all buffers; deterministic. Where the program has `fast_room`, hot buffers go there.

    Args:
        enough: bytes; a smaller arena isn't looked for, nor one of that size where more is alive at once.
    """
    grouped = [list(parts) for _, parts in itertools.groupby(lifetimes(program), key=lambda life: life.index)]
    wholes = [_whole(parts) for parts in grouped]
    room = program.fast_room - program.end_slack
    hot = choose_hot(program, wholes, room) if room > 0 else {}
    fast_size = max((offset + wholes[index].size for index, offset in hot.items()), default=0)
    lives = [life for parts in grouped for life in ([_whole(parts)] if parts[0].index in hot else parts)]
    steps = len(program.steps)
    blocks = [_Block.of(parts, steps) for parts in grouped if parts[0].index not in hot]
    orders: list[Callable[[_Block], tuple[int, ...]]] = [
        lambda b: (-b.size, b.first, b.index),
        lambda b: (-b.area, b.index),
        lambda b: (b.first, -b.size, b.index),
        lambda b: (-(b.last - b.first), -b.size, b.index),
    ]
    sequences = [sorted(blocks, key=order) for order in orders]
    placings = [(_first_fit(sequence, program.alignment), sequence) for sequence in sequences]
    best, sequence = min(placings, key=lambda entry: entry[0][1])
    bound = max(_alive([life for life in lives if life.index not in hot], steps), default=0)
    wanted = max(bound, enough)
    hopeless = 0 < enough < bound
    placed, size = best if hopeless else _bettered(best, sequence, program.alignment, wanted)
    offsets = {**placed, **hot}
    return Plan([offsets[i] for i in range(len(grouped))], size, bound, lives, frozenset(hot), fast_size)


def _whole(parts: Sequence[Lifetime]) -> Lifetime:
    """A buffer as if all of it lived from its first to its last use."""
    first, last = min(part.first for part in parts), max(part.last for part in parts)
    return Lifetime(parts[0].index, first, last, sum(part.size for part in parts))


Placing = tuple[dict[int, int], int]  # offset of each buffer, size of the arena


def _bettered(best: Placing, sequence: list[_Block], alignment: int, wanted: int) -> Placing:
    """Moves a buffer that lies on top in front of one that it meets, as long as the arena doesn't grow for it."""
    rng = random.Random(0)
    for move in range(MOVES):
        offsets, size = best
        if size <= wanted:
            break
        tops = [place for place, block in enumerate(sequence) if offsets[block.index] + block.end > size - alignment]
        place = rng.choice(tops)
        block = sequence[place]
        meets = [k for k in range(place) if sequence[k].meets(block)]
        if not meets:
            continue
        to = meets[0] if move % 2 else rng.choice(meets)
        tried = [*sequence[:to], block, *sequence[to:place], *sequence[place + 1 :]]
        placed = _first_fit(tried, alignment)
        if placed[1] <= size:
            best, sequence = placed, tried
    return best


@dataclass(frozen=True)
class _Block:
    """A buffer to be placed: its parts, and what orders go by."""

    index: int
    parts: list[Lifetime]
    size: int
    first: int
    last: int
    area: int

    @property
    def end(self) -> int:
        """Bytes from its start to the end of its last part."""
        return self.parts[-1].start + self.parts[-1].size

    def meets(self, other: _Block) -> bool:
        """Whether parts of both are alive at the same time."""
        return any(mine.overlaps(theirs) for mine in self.parts for theirs in other.parts)

    @classmethod
    def of(cls, parts: list[Lifetime], steps: int) -> _Block:
        """`area` is bytes × steps."""
        first, last = min(p.first for p in parts), min(max(p.last for p in parts), steps)
        area = sum(p.size * (min(p.last, steps) - p.first + 1) for p in parts)
        return cls(parts[0].index, parts, sum(p.size for p in parts), first, last, area)


def _first_fit(order: Sequence[_Block], alignment: int) -> Placing:
    """Each buffer at the lowest offset where none of its parts meets a part that is alive at the same time."""
    count = sum(len(block.parts) for block in order)
    start, end, first, last = (np.zeros(count, np.int64) for _ in range(4))
    offsets: dict[int, int] = {}
    done = 0
    for block in order:
        low, high = [], []
        for part in block.parts:
            meets = (first[:done] <= part.last) & (last[:done] >= part.first)
            low.append(start[:done][meets] - part.start - part.size)
            high.append(end[:done][meets] - part.start)
        offset = _lowest(np.concatenate(low), np.concatenate(high), alignment)
        offsets[block.index] = offset
        for part in block.parts:
            if part.size:
                start[done], end[done] = offset + part.start, offset + part.start + part.size
                first[done], last[done] = part.first, part.last
                done += 1
    size = int(end.max(initial=0))
    return offsets, -(-size // alignment) * alignment


def _lowest(low: np.ndarray, high: np.ndarray, alignment: int) -> int:
    """The lowest aligned offset that lies inside no open interval (low, high)."""
    keep = high > 0
    order = np.argsort(low[keep], kind="stable")
    low, high = low[keep][order], high[keep][order]
    reached = np.maximum.accumulate(-(-high // alignment) * alignment)
    reached = np.concatenate([np.zeros(1, np.int64), reached])
    free = np.flatnonzero(reached[:-1] <= low)
    return int(reached[free[0]] if free.size else reached[-1])


def _alive(lives: Sequence[Lifetime], steps: int) -> list[int]:
    """Bytes that are alive before the first step, during each step and after the last one."""
    change = np.zeros(steps + 3, np.int64)
    for life in lives:
        change[life.first + 1] += life.size
        change[min(life.last, steps) + 2] -= life.size
    return [int(size) for size in np.cumsum(change)[: steps + 2]]
