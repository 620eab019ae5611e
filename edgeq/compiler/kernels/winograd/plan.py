"""How a Winograd convolution is cut up: tiles into blocks and tasks, channels into column blocks and weight chunks.

Plain arithmetic, no tvm. A block of tiles is transformed once (V), then for each block of output channels all positions
are multiplied (M) and transformed back. Tiles at the right and lower edge are moved inwards, so that they overlap their
neighbours and write the same values a second time, and nothing is read outside the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from edgeq.compiler.isa.products import Product
from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.dense.blocks import SHARES
from edgeq.compiler.kernels.winograd.transforms import TRANSFORMS, Transform

TRANSFORMED_BYTES = 288 * 1024  # of V: it is read once a column block and has to stay in the second-level cache
MAX_TILES = 49
CHUNK_BYTES = 160 * 1024  # of weights that are transformed while running
BAND_TILES = 24  # of a band: its products should stay close to the core
_ABOUT_AS_FAST = 1.03
FETCHED_BYTES = 128 * 1024  # of weights as they lie: so many are asked for ahead
_LINE = 32  # s16 elements of padding between positions, against cache lines of equal address


@dataclass(frozen=True)
class WinogradPlan:
    """Everything about one Winograd convolution on one target.

    Attributes:
        transform: F(m×m, 3×3).
        product: multiplies s16 by s16.
        vectors: registers of output channels of a column block.
        rows: tiles of a register tile.
        tiles_h, tiles_w: tiles of the image.
        block_h, block_w: tiles of a block.
        column_splits: tasks that share a block's output channels.
        channels, out_channels: of the convolution.
        chunk_groups: product groups of K whose weights are transformed together; with stored transforms all of them.
        stored: weights lie transformed in memory; else as they are, and every block of tiles transforms them.
    """

    transform: Transform
    product: Product
    vectors: int
    rows: int
    images: int
    tiles_h: int
    tiles_w: int
    block_h: int
    block_w: int
    column_splits: int
    channels: int
    out_channels: int
    chunk_groups: int
    stored: bool

    @property
    def blocks_h(self) -> int:
        return math.ceil(self.tiles_h / self.block_h)

    @property
    def blocks_w(self) -> int:
        return math.ceil(self.tiles_w / self.block_w)

    @property
    def units(self) -> int:
        """Pieces of work that tasks are made of: a share of a block's output channels."""
        return self.images * self.blocks_h * self.blocks_w * self.column_splits

    @property
    def columns(self) -> int:
        """Output channels of a whole column block."""
        return self.vectors * self.product.lanes

    @property
    def groups(self) -> int:
        """Product groups of K, filled up to whole chunks."""
        return self.chunks * self.chunk_groups

    @property
    def chunks(self) -> int:
        return math.ceil(math.ceil(self.channels / self.product.group) / self.chunk_groups)

    @property
    def weight_bytes(self) -> int:
        """Weights as they lie, nine bytes each."""
        return 9 * self.out_channels * self.channels

    @property
    def padded_tiles(self) -> int:
        """Tiles of a block, filled up to whole register tiles."""
        return -(-self.block_h * self.block_w // self.rows) * self.rows

    @property
    def v_stride(self) -> int:
        """s16 elements of scratch from one position of V to the next."""
        behind = self.groups * self.product.group - self.channels
        return _padded(self.padded_tiles * self.channels + behind)

    @property
    def band(self) -> int:
        """Register tiles whose products are made and transformed back together: all, where M is added up over chunks
        of weights; else some, with M no larger than that."""
        pieces = self.padded_tiles // self.rows
        return pieces if self.chunks > 1 else math.ceil(pieces / math.ceil(self.padded_tiles / BAND_TILES))

    @property
    def m_stride(self) -> int:
        """s16 elements of scratch from one position of M (s32) to the next."""
        return _padded(2 * self.band * self.rows * self.columns)

    @property
    def u_stride(self) -> int:
        """s16 elements from one position to the next of the weights that are transformed while running."""
        return _padded(self.chunk_groups * self.columns * self.product.group)

    @property
    def m_start(self) -> int:
        """First s16 element of M in scratch; V comes before it."""
        return self.transform.positions * self.v_stride

    @property
    def u_start(self) -> int:
        return self.m_start + self.transform.positions * self.m_stride

    @property
    def bytes_start(self) -> int:
        """Where a tile's bytes wait for a table."""
        return self.u_start + (0 if self.stored else self.transform.positions * self.u_stride)

    def cost(self) -> float:
        """Cycles of one run, in the unit of Product.step_cost."""
        p, t = self.product, self.transform
        tiles = self.images * self.tiles_h * self.tiles_w
        blocks = self.images * self.blocks_h * self.blocks_w
        registers = math.ceil(self.out_channels / p.lanes)
        pieces = self.padded_tiles // self.rows * blocks
        multiply = registers / self.vectors * pieces * (p.step_cost(self.rows, self.vectors) * self.groups + 12.0)
        # Operations on registers: a chain takes about 2·(m + 2) of them, both passes run over m + 2 rows.
        chain = 2.2 * t.taps
        steps = math.ceil(self.channels / min(2 * p.lanes, 1 << (self.channels.bit_length() - 1)))
        forward = tiles * steps * t.taps * 2 * (chain + t.taps)
        back = tiles * registers * (t.taps * (chain + t.taps) + t.m * (chain + 6.0 * t.m))
        cost = t.positions * multiply + (forward + back) / 2
        if not self.stored:
            cost += blocks * registers / self.vectors * self.groups * self.vectors * (9 + 2.5 * t.positions) / 1.5
        return cost


def _padded(elements: int) -> int:
    return -(-elements // _LINE) * _LINE + _LINE


def choose_rows(tiles: int, vectors: int, product: Product) -> int:
    """Tiles of a register tile: the cheapest, the rest of the last one counted."""
    sizes = [rows for rows in range(1, min(tiles, product.registers) + 1) if product.fits(rows, vectors)]
    return min(sizes, key=lambda rows: (math.ceil(tiles / rows) * product.step_cost(rows, vectors), rows))


def _blocks(tiles_h: int, tiles_w: int, bytes_a_tile: int) -> list[tuple[int, int]]:
    """(block_h, block_w) in tiles that are worth a look: whole rows of tiles, or equal parts of several rows."""
    limit = max(4, min(MAX_TILES, TRANSFORMED_BYTES // bytes_a_tile))
    if tiles_w > limit:
        return [(1, math.ceil(tiles_w / math.ceil(tiles_w / limit)))]
    widths = [tiles_w // parts for parts in (1, 2) if tiles_w % parts == 0]
    found = []
    for width in widths:
        strips = min(tiles_h, limit // width)
        found.append((math.ceil(tiles_h / math.ceil(tiles_h / strips)), width))
    return found


def _busiest(plan: WinogradPlan) -> float:
    """How much more than its share the busiest of SHARES threads has to do: 1 for even shares."""
    heights, widths = (
        [min(size, extent - start) for start in range(0, extent, size)]
        for extent, size in ((plan.tiles_h, plan.block_h), (plan.tiles_w, plan.block_w))
    )
    blocks = [height * width for _ in range(plan.images) for height in heights for width in widths]
    units = [block for block in blocks for _ in range(plan.column_splits)]
    edges = [len(units) * thread // SHARES for thread in range(SHARES + 1)]
    return max(sum(units[begin:end]) for begin, end in pairwise(edges)) * SHARES / sum(units)


def make_plan(m: int, x: Image, y: Image, product: Product, tasks: int, stored: bool) -> WinogradPlan:
    """The plan of a convolution: of blocks that take about the same time the ones with the most even shares.

    Args:
        product: of s16 by s16, reading s16 weights.
        tasks: that share the work.
    """
    transform = TRANSFORMS[m]
    tiles_h, tiles_w = math.ceil(y.h / m), math.ceil(y.w / m)
    registers = math.ceil(y.c / product.lanes)
    vectors = min(registers, max(1, 16 // product.lanes), product.widest) if product.lanes < 8 else min(registers, 2)
    while not product.fits(1, vectors):
        vectors -= 1
    groups = math.ceil(x.c / product.group)
    chunk = groups
    if not stored:
        per_group = transform.positions * vectors * product.lanes * product.group * 2
        chunk = math.ceil(groups / math.ceil(groups * per_group / CHUNK_BYTES))

    def plan(block: tuple[int, int]) -> WinogradPlan:
        blocks = y.n * math.ceil(tiles_h / block[0]) * math.ceil(tiles_w / block[1])
        return WinogradPlan(
            transform=transform,
            product=product,
            vectors=vectors,
            rows=choose_rows(block[0] * block[1], vectors, product),
            images=y.n,
            tiles_h=tiles_h,
            tiles_w=tiles_w,
            block_h=block[0],
            block_w=block[1],
            column_splits=min(math.ceil(registers / vectors), max(1, tasks // blocks)),
            channels=x.c,
            out_channels=y.c,
            chunk_groups=chunk,
            stored=stored,
        )

    plans = [plan(block) for block in _blocks(tiles_h, tiles_w, transform.positions * x.c * 2)]
    limit = min(found.cost() for found in plans) * _ABOUT_AS_FAST
    return min((found for found in plans if found.cost() <= limit), key=_busiest)
