"""Which pixels and channels of a dense convolution make a block: as much as stays in caches, shared out evenly.

Plain arithmetic, no tvm. Loops go block of pixels -> block of channels -> tile of pixels, so each block of pixels reads
all weights once. Tasks are equal shares of *units*: blocks, or parts of their channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeq.compiler.kernels.base import CACHE_LINE

# A block of pixels, its activations and one block of weights should stay in the caches that every target has.
STAGED_ELEMENTS = 12 * 1024  # s16, so 24 KB of L1
DIRECT_BYTES = 128 * 1024
NEAR_BYTES = 12 * 1024  # activations that stay in the first level beside a block of weights
SHARES = 4  # threads among which tasks divide evenly
# Time of a cache line from the second level; activations of a tile are few and come while others are multiplied.
_WEIGHT_LINE, _INPUT_LINE = 3.0, 0.5
_IDLE = 0.1  # how much a thread's waiting counts: most programs run on one


@dataclass(frozen=True)
class Blocks:
    """Output pixels of a block, whole tiles high and wide, and how many parts its channels have."""

    height: int
    width: int
    splits: int


@dataclass(frozen=True)
class Work:
    """What is to be cut up.

    Attributes:
        images, height, width: output pixels as the loops count them.
        tile_h, tile_w: of a register tile.
        reads: (tiles high, tiles wide) -> elements of x that they read.
        column_blocks: blocks of channels that tasks may share out; 1: they may not.
        weight_bytes: of all channels.
        cost: of the whole, in the unit of Product.step_cost.
        tasks: that want a share.
    """

    images: int
    height: int
    width: int
    tile_h: int
    tile_w: int
    reads: Callable[[int, int], int]
    column_blocks: int
    weight_bytes: int
    cost: float
    tasks: int

    @property
    def strips(self) -> int:
        """Rows of tiles of an image."""
        return math.ceil(self.height / self.tile_h)

    @property
    def tiles_w(self) -> int:
        """Tiles of a row."""
        return math.ceil(self.width / self.tile_w)


def staged_blocks(work: Work) -> Blocks:
    """Blocks whose activations are copied to scratch: small, and each task has its own."""
    tiles = work.images * work.tiles_w * work.strips
    per_task = _even(tiles, work.tasks)
    blocks = tiles
    if per_task < work.tiles_w or work.reads(1, work.tiles_w) > 4 * STAGED_ELEMENTS:
        width = min(per_task, work.tiles_w)
        while width > 1 and work.reads(1, width) > STAGED_ELEMENTS:
            width = -(-width // 2)
        height, width = 1, -(-work.tiles_w // -(-work.tiles_w // width))
    else:
        height, width = max(1, min(work.strips, per_task // work.tiles_w)), work.tiles_w
        while height > 1 and work.reads(height, work.tiles_w) > STAGED_ELEMENTS:
            height = -(-height // 2)
        height = -(-work.strips // -(-work.strips // height))
    blocks = work.images * math.ceil(work.strips / height) * math.ceil(work.tiles_w / width)
    # Few pixels: tasks share out the channels, each reads its part of the weights.
    splits = min(work.tasks, work.column_blocks) if blocks == 1 else 1
    return Blocks(height * work.tile_h, width * work.tile_w, splits)


def _even(tiles: int, tasks: int) -> int:
    """Tiles of a block, about tiles / tasks, so that SHARES threads have as little as possible to do at most."""
    rounded = (max(1, tiles // tasks), -(-tiles // tasks))
    return min(rounded, key=lambda size: math.ceil(math.ceil(tiles / size) / SHARES) * size)


def direct_blocks(work: Work) -> Blocks:
    """Blocks whose activations are read where they lie: as large as caches allow, channels shared out among tasks."""
    partial = work.strips == 1 or work.reads(1, work.tiles_w) > 4 * DIRECT_BYTES  # rows are cut
    extent = work.tiles_w if partial else work.strips
    outer = work.images * (work.strips if partial else 1)
    found: list[tuple[float, int, int]] = []
    for size in _sizes(extent):
        elements = work.reads(1, size) if partial else work.reads(size, work.tiles_w)
        if elements > DIRECT_BYTES and size > 1:
            continue
        blocks = outer * math.ceil(extent / size)
        share = _channels_of_a_task(work.column_blocks, blocks, work.tasks)
        units = blocks * math.ceil(work.column_blocks / share)
        longest = math.ceil(units / SHARES) * size * share * SHARES / (outer * extent * work.column_blocks)
        idle = _IDLE * (longest - 1) if work.tasks >= SHARES else 0.0
        lacking = max(0.0, 1 - units / work.tasks)
        found.append((work.cost * (idle + lacking) + _traffic(work, blocks, elements), size, share))
    _, size, share = min(found)
    splits = math.ceil(work.column_blocks / share)
    if partial:
        return Blocks(work.tile_h, size * work.tile_w, splits)
    return Blocks(size * work.tile_h, work.tiles_w * work.tile_w, splits)


def _sizes(extent: int) -> list[int]:
    """Sizes of equal parts."""
    return sorted({math.ceil(extent / count) for count in range(1, extent + 1)})


def _channels_of_a_task(column_blocks: int, blocks: int, tasks: int) -> int:
    """Blocks of channels that stay together: as many as still leave something for each task, in equal parts."""
    parts = min(column_blocks, math.ceil(tasks / blocks))
    even = [math.ceil(column_blocks / count) for count in range(parts, column_blocks + 1)]
    return min(even, key=lambda share: (math.ceil(column_blocks / share) * blocks % SHARES != 0, -share))


def _traffic(work: Work, blocks: int, elements: int) -> float:
    """Time that lines from the second level take."""
    times = 1 if elements <= NEAR_BYTES else work.column_blocks
    return (_WEIGHT_LINE * work.weight_bytes + _INPUT_LINE * times * elements) * blocks / CACHE_LINE
