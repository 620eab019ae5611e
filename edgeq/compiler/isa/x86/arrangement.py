"""In which order and how deep a layer's K is multiplied with 16-bit sums, so that none can saturate. NumPy only.

A lane of pmaddubsw is safe while the positive parts of the weights it sums add up to at most 128, and the negative ones
too (255 · 128 = 32640). Weights are known when a layer is compiled, and the order of K is free. For each block of
columns, with K in *groups* of four neighbours and *windows* of sixteen:

- groups that are safe by themselves are joined to *sets* of two to four, wherever they lie, whose sums are safe
  together: their products share one widening to 32 bits;
- inside a window that has other groups too, two k are *compatible* if they are safe together in every column; a
  matching makes steps of two pairs, which pshufb brings together. A k that is left over meets itself, its weight split
  into halves;
- groups of zeros are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from edgeq.compiler.isa.base import IntArray

WINDOW = 16
GROUP = 4
MOST = 128  # largest sum of positive (negative) parts in a lane, for u8 activations
DEPTHS = (4, 3, 2)  # sizes of sets; larger ones need more registers than there are
SHORT = DEPTHS[-1:]  # each size is a loop of its own, which has to pay
_ROUNDS = 4  # attempts to join what is left
_AT_A_TIME = 1 << 23  # sums of a chunk of blocks


def compatibility(weights: IntArray) -> IntArray:
    """int8 [windows, columns, 16] -> bool [windows, 16, 16]: which two k may be a pair."""
    result = np.ones((len(weights), WINDOW, WINDOW), bool)
    for part in (np.maximum(weights, 0).astype(np.int16), -np.minimum(weights, 0).astype(np.int16)):
        for column in range(weights.shape[1]):
            own = part[:, column]
            result &= own[:, :, None] + own[:, None, :] <= MOST
    result[:, np.arange(WINDOW), np.arange(WINDOW)] = False
    return result


def matching(compatible: IntArray, free: IntArray) -> IntArray:
    """int [windows, 16]: the partner of each free k; itself where none is left or it isn't free.

    The k with the fewest compatible ones chooses first, all windows at once.

    Args:
        compatible: bool [windows, 16, 16]. free: bool [windows, 16].
    """
    free, every = free.copy(), np.arange(len(free))
    partner = np.tile(np.arange(WINDOW), (len(free), 1))
    while True:
        choices = (compatible & free[:, None, :]).sum(2)
        first = np.where(free & (choices > 0), choices, WINDOW + 1).argmin(1)
        possible = compatible[every, first] & free & free[every, first][:, None]
        second = np.where(possible, choices, WINDOW + 1).argmin(1)
        found = possible[every, second]
        if not found.any():
            return partner
        at, a, b = every[found], first[found], second[found]
        partner[at, a], partner[at, b] = b, a
        free[at, a] = free[at, b] = False


@dataclass(frozen=True)
class WindowSteps:
    """The steps of one window.

    Attributes:
        plain: first k of groups that are taken as they lie.
        pairs: (a, b) for the others, a = b where a k is split.
    """

    plain: list[int]
    pairs: list[tuple[int, int]]

    @property
    def count(self) -> int:
        return len(self.plain) + -(-len(self.pairs) // 2)


def steps_of(weights: IntArray) -> list[WindowSteps]:
    """Steps of every window of one block, int8 [windows, columns, 16]; k whose weights are all 0 are left out.

    Groups stay as they lie where that takes no more steps.
    """
    compatible, live = compatibility(weights), np.any(weights, axis=1)
    neighbours = compatible[:, np.arange(0, WINDOW, 2), np.arange(1, WINDOW, 2)]
    good = neighbours.reshape(-1, 4, 2).all(2) & live.reshape(-1, 4, 4).any(2)
    whole = _windows(good & False, live, matching(compatible, live))
    kept = _windows(good, live, matching(compatible, live & ~np.repeat(good, 4, 1)))
    return [b if b.count <= a.count else a for a, b in zip(whole, kept, strict=True)]


def _windows(groups: IntArray, live: IntArray, partner: IntArray) -> list[WindowSteps]:
    others = live & ~np.repeat(groups, 4, 1)
    rows = zip(groups.tolist(), others.tolist(), partner.tolist(), strict=True)
    return [
        WindowSteps(
            [4 * q for q in range(4) if plain[q]],
            [(k, own[k]) for k in range(WINDOW) if k <= own[k] and (left[k] or left[own[k]])],
        )
        for plain, left, own in rows
    ]


@dataclass
class Block:
    """What one block of columns multiplies.

    Attributes:
        sets: by size, int [sets, size]: numbers of groups that share 16-bit sums.
        pairs: (window, at most two pairs of k in it) of every step that needs pshufb.
    """

    sets: dict[int, IntArray] = field(default_factory=dict)
    pairs: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """Sets of each size, the largest first and single groups last, and paired steps."""
        return (*(len(found) for _, found in sorted(self.sets.items(), reverse=True)), len(self.pairs))

    @property
    def steps(self) -> int:
        """Groups and paired steps."""
        return sum(found.size for found in self.sets.values()) + len(self.pairs)


@lru_cache(maxsize=4)
def arrange(
    data: bytes, shape: tuple[int, int, int], columns: int, depths: tuple[int, ...] = DEPTHS
) -> tuple[Block, ...]:
    """The blocks of weights int8 [channels, windows, 16], `columns` channels each.

    Args:
        depths: sizes of sets, the largest first.
    """
    channels, windows, _ = shape
    padded = np.zeros((-(-channels // columns) * columns, windows, WINDOW), np.int8)
    padded[:channels] = np.frombuffer(data, np.int8).reshape(shape)
    blocks = padded.reshape(-1, columns, windows, WINDOW)
    chunk = max(1, _AT_A_TIME // (columns * windows * WINDOW))
    found: list[Block] = []
    for start in range(0, len(blocks), chunk):
        found += _arrange_blocks(blocks[start : start + chunk], depths)
    return tuple(found)


def _arrange_blocks(blocks: IntArray, depths: tuple[int, ...]) -> list[Block]:
    count, columns, windows, _ = blocks.shape
    by_group = blocks.reshape(count, columns, windows * 4, 2, 2).transpose(0, 2, 1, 3, 4)
    halves = [
        part.astype(np.int16).sum(4) for part in (np.maximum(by_group, 0), -np.minimum(by_group, 0).astype(np.int16))
    ]
    sums = np.concatenate(halves, 3).reshape(count, windows * 4, columns * 4)
    peaks = sums.max(2)
    alive = (peaks > 0) & (peaks <= MOST)
    result = [Block() for _ in range(count)]
    unsafe = (peaks > MOST).reshape(count, windows, 4).any(2)
    if unsafe.any():
        at = np.argwhere(unsafe)
        steps = steps_of(np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)[unsafe]))
        for (number, window), own in zip(at.tolist(), steps, strict=True):
            alive[number, 4 * window : 4 * window + 4] = [4 * q in own.plain for q in range(4)]
            result[number].pairs += [(window, own.pairs[i : i + 2]) for i in range(0, len(own.pairs), 2)]
    for size in depths:
        for block, members in zip(result, _join(sums, peaks, alive, size), strict=True):
            block.sets[size] = members
    for block, left in zip(result, alive, strict=True):
        block.sets[1] = np.flatnonzero(left)[:, None]
    return result


def _join(sums: IntArray, peaks: IntArray, alive: IntArray, size: int) -> list[IntArray]:
    """Sets of `size` of the groups that are alive, int [sets, size] for each block; takes their life.

    Args:
        sums: int16 [blocks, groups, lanes · signs]. peaks: the largest of each group. alive: bool [blocks, groups].
    """
    rng, every = np.random.default_rng(0), np.arange(len(sums))[:, None]
    found: list[list[IntArray]] = [[] for _ in sums]
    for attempt in range(_ROUNDS):
        noise = rng.integers(0, 1 + 64 * attempt, alive.shape)
        order = np.argsort(np.where(alive, -(peaks.astype(np.int64) + noise), 1 << 20), axis=1, kind="stable")
        sets = alive.sum(1)[:, None] // size
        number = np.arange(int(sets.max(initial=0)))[None]
        if not number.size:
            break
        # Large and small ones take turns, so that sets become alike.
        places = [j * sets + (number if j % 2 == 0 else sets - 1 - number) for j in range(size)]
        members = np.stack([order[every, place.clip(0, alive.shape[1] - 1)] for place in places], 2)
        total = np.zeros((*members.shape[:2], sums.shape[2]), np.int16)
        for j in range(size):
            total += sums[every, members[:, :, j]]
        good = (total.max(2) <= MOST) & (number < sets)
        if not good.any() and attempt:
            break
        for block in range(len(sums)):
            own = members[block][good[block]]
            found[block].append(own)
            alive[block, own.reshape(-1)] = False
    return [np.concatenate(own) if own else np.zeros((0, size), np.int64) for own in found]
