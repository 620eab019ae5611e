"""How a dense convolution is cut up: pixels into tiles, blocks and tasks, channels into register blocks, K into runs.

Plain arithmetic, no tvm: packing and code generation read the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeq.compiler.kernels.base import CACHE_LINE, Image
from edgeq.compiler.kernels.dense.blocks import SHARES, Work, direct_blocks, staged_blocks

if TYPE_CHECKING:
    from edgeq.compiler.isa.products import Product

TASK_MACS = 250_000  # about 2–20 µs: fine enough to share out, coarse enough not to notice
MAX_TASKS = 64
TASK_PIXELS = 12  # at least a tile
TASK_CHANNELS = 64
FETCHED_BYTES, FETCHING_TILES = 4 * 1024, 4  # weights are fetched ahead for blocks of so much, by so many tiles


@dataclass(frozen=True)
class Window:
    """Kernel window and strides of a convolution over an image that already contains its padding."""

    kh: int
    kw: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int

    @property
    def pointwise(self) -> bool:
        """1×1 with stride 1: pixels may be renumbered freely."""
        return self.kh == self.kw == self.stride_h == self.stride_w == 1

    def rows(self, height: int) -> int:
        """Rows of x that so many rows of outputs read."""
        return (height - 1) * self.stride_h + (self.kh - 1) * self.dilation_h + 1

    def columns(self, width: int) -> int:
        """Columns of x that so many outputs side by side read."""
        return (width - 1) * self.stride_w + (self.kw - 1) * self.dilation_w + 1


def pixel_run(images: list[Image]) -> list[Image] | None:
    """The same images with all pixels in one row, if the strides of all of them allow it."""
    result = []
    for image in images:
        pixel, run = image.pixel_stride, image.w
        for count, stride in ((image.h, image.row_stride), (image.n, image.image_stride)):
            if count > 1 and run == 1:
                pixel = stride
            elif count > 1 and stride != run * pixel:
                return None
            run *= count
        result.append(Image(1, 1, run, image.c, run * pixel, run * pixel, pixel))
    return result


@dataclass(frozen=True)
class Runs:
    """K as runs: `rows × columns` runs of `length` elements, each `groups` product groups long.

    Attributes:
        row_step, column_step: elements from one run to the next in x as the loop reads it.
    """

    rows: int
    columns: int
    length: int
    groups: int
    row_step: int
    column_step: int

    @property
    def total_groups(self) -> int:
        return self.rows * self.columns * self.groups

    def places(self, group: int) -> np.ndarray:
        """int64 [total_groups]: the element of x, from a tile's first, where each group begins."""
        starts = np.add.outer(np.arange(self.rows) * self.row_step, np.arange(self.columns) * self.column_step)
        return np.add.outer(starts.reshape(-1), np.arange(self.groups) * group).reshape(-1)


def split_runs(window: Window, channels: int, dense: bool, row_stride: int, pixel_stride: int, group: int) -> Runs:
    """Merges neighbouring taps into runs as long as their elements are contiguous.

    Args:
        channels: input channels of one convolution group.
        dense: the group's channels are all there are between two pixels.
        row_stride, pixel_stride: of x as the loop reads it.
        group: K elements of a product step.
    """
    rows, columns, length = window.kh, window.kw, channels
    row_step, column_step = window.dilation_h * row_stride, window.dilation_w * pixel_stride
    if dense and column_step == length:
        columns, length = 1, window.kw * channels
        if row_step == length:
            rows, length = 1, window.kh * length
    return Runs(rows, columns, length, -(-length // group), row_step, column_step)


@dataclass(frozen=True)
class Tiling:
    """Pixels of one task range.

    Attributes:
        tile_h, tile_w: output pixels of a register tile.
        block_h, block_w: output pixels of a block, whole tiles; a block is staged and done as one.
        vectors: registers of channels side by side.
        column_splits: tasks that share a block's channels.
    """

    tile_h: int
    tile_w: int
    block_h: int
    block_w: int
    vectors: int
    column_splits: int


Tile = tuple[int, int, int]  # pixels high, pixels wide, registers of channels


def rank_tiles(
    oh: int, ow: int, channels: int, steps: int, product: Product, pixel_cost: float = 0.0
) -> list[tuple[float, Tile]]:
    """(cost, tile) of every split of oh × ow pixels that fits into registers, the cheapest first by the product's own
    estimate.

    Args:
        steps: product steps over the whole of K.
        pixel_cost: that each pixel of a tile takes for itself.
    """
    total = -(-channels // product.lanes)
    widest = min(total, product.widest * (2 if oh * ow == 1 else 1))
    found: list[tuple[float, Tile]] = []
    for vectors in range(widest, 0, -1):
        columns = _pieces(total, vectors)
        for tile_h, tile_w in _tile_shapes(oh, ow, vectors, product):
            rows = _pieces(oh * ow if tile_h > 1 else ow, tile_h * tile_w)
            cost = sum(
                many * times * (product.step_cost(r, v) * steps + product.tile_cost(r, v) + pixel_cost * r)
                for r, many in rows
                for v, times in columns
            )
            found.append((cost * (1 if tile_h > 1 else oh), (tile_h, tile_w, vectors)))
    assert found, "a product holds one row and one register"
    return sorted(found, key=lambda entry: entry[0])  # stable: of equal ones the widest comes first


def _tile_shapes(oh: int, ow: int, vectors: int, product: Product) -> list[tuple[int, int]]:
    """Tiles that fit into registers: parts of a row of pixels, or several whole rows."""
    largest = product.registers
    shapes = [(1, width) for width in range(1, min(ow, largest) + 1) if product.fits(width, vectors)]
    return shapes + [(height, ow) for height in range(2, min(oh, largest) + 1) if product.fits(height * ow, vectors)]


def _pieces(extent: int, size: int) -> list[tuple[int, int]]:
    """(size, how many) of the pieces of an extent."""
    full, rest = divmod(extent, size)
    return [(piece, many) for piece, many in ((size, full), (rest, 1)) if piece and many]


def count_tasks(x: Image, y: Image, window: Window, groups: int) -> int:
    """How many tasks a convolution is worth, whatever the target: by its multiplications, pixels and channels."""
    macs = y.n * y.h * y.w * y.c * (x.c // groups) * window.kh * window.kw
    pixels = -(-(y.n * y.h * y.w) // TASK_PIXELS)
    tasks = max(1, min(MAX_TASKS, macs // TASK_MACS, pixels if pixels > 1 else -(-y.c // TASK_CHANNELS)))
    return tasks - tasks % SHARES if tasks > SHARES else tasks


@dataclass(frozen=True)
class Plan:
    """Everything about one convolution on one target.

    Attributes:
        x, y, residual: images, pixels renumbered into one row where that is possible.
        folded: tiles are runs of output pixels that go on in the next row; places are computed for each pixel.
        window: of the convolution.
        product: what multiplies.
        runs: of K, as the loop reads it.
        tiling: of pixels and channels.
        groups: convolution groups; the channel counts below are of one group.
        staged_w, staged_h: pixels of x a block copies to scratch (0: none).
        cost: estimated time of one run, in the unit of Product.step_cost.
    """

    x: Image
    y: Image
    residual: Image | None
    folded: bool
    window: Window
    product: Product
    runs: Runs
    tiling: Tiling
    groups: int
    in_channels: int
    out_channels: int
    staged_h: int
    staged_w: int
    cost: float

    @property
    def pixels(self) -> tuple[int, int, int]:
        """Images, rows and columns of output pixels as the loops count them."""
        return _pixels(self.y, self.folded)

    @property
    def blocks_h(self) -> int:
        return math.ceil(self.pixels[1] / self.tiling.block_h)

    @property
    def blocks_w(self) -> int:
        return math.ceil(self.pixels[2] / self.tiling.block_w)

    @property
    def pixel_blocks(self) -> int:
        return self.pixels[0] * self.blocks_h * self.blocks_w

    @property
    def units(self) -> int:
        """Pieces of work that tasks are made of: blocks of pixels, or a share of one's channels."""
        return self.pixel_blocks * self.tiling.column_splits

    @property
    def registers(self) -> int:
        """Registers for one group's channels."""
        return math.ceil(self.out_channels / self.product.lanes)

    def block_bytes(self, vectors: int) -> int:
        """Bytes of the weights of a block of `vectors` registers."""
        runs = self.runs
        if self.product.whole:
            return self.product.run_bytes(runs.total_groups, vectors)
        return runs.rows * runs.columns * self.product.run_bytes(runs.groups, vectors)

    @property
    def fetched_lines(self) -> int:
        """Cache lines that each tile asks for of the next block's weights, which together are all of them; 0: weights
        are few, or tiles are, so that they would come too late and in a crowd."""
        t = self.tiling
        tiles, size = (t.block_h // t.tile_h) * (t.block_w // t.tile_w), self.block_bytes(t.vectors)
        return 0 if tiles < FETCHING_TILES or size < FETCHED_BYTES else math.ceil(size / (CACHE_LINE * tiles))

    @property
    def staged_elements(self) -> int:
        return self.staged_h * self.staged_w * self.x.c


def _pixels(y: Image, folded: bool) -> tuple[int, int, int]:
    return (1, 1, y.n * y.h * y.w) if folded else (y.n, y.h, y.w)


@dataclass(frozen=True)
class Choice:
    """What a plan is free to choose: the product (its number among those that are exact), the register tile, and
    whether tiles go on in the next row."""

    product: int
    tile: Tile
    folded: bool = False


# What each pixel's own place takes: a division, and where x has no even step a pointer.
_FOLDED, _FOLDED_INPUT = 1.5, 6.0


def rank_choices(
    x: Image, y: Image, residual: Image | None, window: Window, groups: int, products: Sequence[Product]
) -> list[tuple[float, Choice]]:
    """(cost of one run, choice) of all products and tiles, the cheapest first."""
    found: list[tuple[float, Choice]] = []
    flat_x, flat_y, _ = _flat(x, y, residual, window)
    for number, product in enumerate(products):
        runs = runs_of(flat_x, window, groups, product)
        steps = product.run_steps(runs.groups) * (1 if product.whole else runs.rows * runs.columns)
        for folded in (False, True):
            if folded and not _folds(x, flat_y, window, product):
                continue
            images, height, width = _pixels(flat_y, folded)
            pixel = 0.0 if not folded else _FOLDED if _even_input(x, window) else _FOLDED_INPUT
            ranked = rank_tiles(height, width, y.c // groups, steps, product, pixel)
            found += [(cost * images * groups, Choice(number, tile, folded)) for cost, tile in ranked]
    return sorted(found, key=lambda entry: entry[0])


def _even_input(x: Image, window: Window) -> bool:
    """Whether the pixels of x follow each other with one step."""
    return window.pointwise and pixel_run([x]) is not None


def _folds(x: Image, y: Image, window: Window, product: Product) -> bool:
    """Whether tiles may go on in the next row, and don't anyway. Products that go to and fro in x want one pointer for
    all rows of a tile (a third slower with one each)."""
    return y.n * y.h > 1 and (_even_input(x, window) or not (product.stages or product.whole))


def _flat(x: Image, y: Image, residual: Image | None, window: Window) -> tuple[Image, Image, Image | None]:
    """The images with all pixels in one row where that is possible."""
    flat = pixel_run([x, y] + ([residual] if residual else [])) if window.pointwise else None
    return (x, y, residual) if flat is None else (flat[0], flat[1], flat[2] if residual else None)


def make_plan(
    x: Image,
    y: Image,
    residual: Image | None,
    window: Window,
    groups: int,
    products: Sequence[Product],
    choice: Choice | None = None,
    *,
    keeps_channels: bool = False,
) -> Plan:
    """The plan with the cheapest product and tile, or with those of `choice`.

    Args:
        keeps_channels: a block's channels had better be one task's, where there are several blocks.
    """
    tasks = count_tasks(x, y, window, groups)
    ranked = rank_choices(x, y, residual, window, groups, products)
    cost, picked = next(entry for entry in ranked if choice in (None, entry[1]))
    product, tile = products[picked.product], picked.tile
    if picked.folded:
        if _even_input(x, window):
            [x] = pixel_run([x]) or [x]
    else:
        x, y, residual = _flat(x, y, residual, window)
    images, height, width = _pixels(y, picked.folded)
    column_blocks = math.ceil(math.ceil(y.c // groups / product.lanes) / tile[2])
    runs = runs_of(x, window, groups, product)
    work = Work(
        images=images,
        height=height,
        width=width,
        tile_h=tile[0],
        tile_w=tile[1],
        reads=lambda high, wide: _reads(x, y, window, picked.folded, (high * tile[0], wide * tile[1])),
        column_blocks=1 if groups > 1 or (keeps_channels and height * width > tile[0] * tile[1]) else column_blocks,
        weight_bytes=runs.total_groups * product.group * y.c,
        cost=cost,
        tasks=tasks,
    )
    blocks = staged_blocks(work) if product.stages else direct_blocks(work)
    staged_h = staged_w = 0
    strides = (x.row_stride, x.pixel_stride)
    if product.stages:
        staged_h = min(x.h, window.rows(min(blocks.height, height)))
        staged_w = min(x.w, window.columns(min(blocks.width, width)))
        strides = (staged_w * x.c, x.c)
    return Plan(
        x=x,
        y=y,
        residual=residual,
        folded=picked.folded,
        window=window,
        product=product,
        runs=_runs(x, window, groups, strides, product),
        tiling=Tiling(*tile[:2], blocks.height, blocks.width, tile[2], blocks.splits),
        groups=groups,
        in_channels=x.c // groups,
        out_channels=y.c // groups,
        staged_h=staged_h,
        staged_w=staged_w,
        cost=cost,
    )


def _reads(x: Image, y: Image, window: Window, folded: bool, size: tuple[int, int]) -> int:
    """Elements of x that a block of output pixels, high and wide, reads."""
    high, wide = size
    if folded:  # whole rows, more or less
        high, wide = math.ceil(wide / y.w), min(wide, y.w)
    return window.rows(high) * min(window.columns(wide), x.w) * x.c


def runs_of(x: Image, window: Window, groups: int, product: Product) -> Runs:
    """K as this product's loop reads it."""
    # A staged image is dense, whatever its size.
    strides = (x.w * x.c, x.c) if product.stages else (x.row_stride, x.pixel_stride)
    return _runs(x, window, groups, strides, product)


def _runs(x: Image, window: Window, groups: int, strides: tuple[int, int], product: Product) -> Runs:
    dense = groups == 1 and strides[1] == x.c
    return split_runs(window, x.c // groups, dense, *strides, product.group)
