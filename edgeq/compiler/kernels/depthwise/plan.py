"""How a depthwise convolution is cut up: axes, chunks of channels, tiles of outputs. Plain data, no tvm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgeq.compiler.kernels.base import Image

if TYPE_CHECKING:
    from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
    from edgeq.compiler.kernels.depthwise.products import DepthwiseProduct

UNROLLED_TAPS = 49  # larger kernels loop over their taps
UNROLLED_STEPS = 224  # product instructions of a tile that is written out
ARRANGING = 2.5  # what loading and arranging one register of taps costs, in product instructions
FEW_ROWS = 16  # up to here a task has two rows, above four
FINISHING = 6.0  # what starting, requantizing and storing one register costs


@dataclass(frozen=True)
class Strides:
    """Element strides of one operand."""

    image: int
    row: int
    column: int

    @classmethod
    def of(cls, image: Image) -> Strides:
        return cls(image.image_stride, image.row_stride, image.pixel_stride)

    def swapped(self) -> Strides:
        """Rows and columns exchanged."""
        return Strides(self.image, self.column, self.row)


@dataclass(frozen=True)
class Geometry:
    """The convolution after its axes were chosen: taps below each other (kh) are what products group.

    Attributes:
        channels: output channels side by side; of a flattened row, pixels × channels.
        period: channels after which weights and parameters repeat.
        multiplier: output channels of one input channel.
    """

    images: int
    rows: int
    columns: int
    channels: int
    period: int
    multiplier: int
    kh: int
    kw: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    x: Strides
    y: Strides
    residual: Strides | None
    swapped: bool

    @classmethod
    def of(cls, spec: DepthwiseSpec, widest: int) -> Geometry:
        """The spec's geometry; a kernel of one row is turned by 90°, rows of narrow pixels are flattened."""
        other = spec.epilogue.residual
        natural = cls(
            spec.y.n, spec.y.h, spec.y.w, spec.y.c, spec.y.c, spec.multiplier_per_channel, spec.kh, spec.kw,
            spec.stride_h, spec.stride_w, spec.dilation_h, spec.dilation_w,
            Strides.of(spec.x), Strides.of(spec.y), Strides.of(other.image) if other else None, False,
        )  # fmt: skip
        turned = natural._turned() if spec.kh == 1 and spec.kw > 1 else natural
        return turned._flattened(widest)

    def _turned(self) -> Geometry:
        return replace(
            self,
            rows=self.columns, columns=self.rows, kh=self.kw, kw=self.kh, stride_h=self.stride_w,
            stride_w=self.stride_h, dilation_h=self.dilation_w, dilation_w=self.dilation_h, x=self.x.swapped(),
            y=self.y.swapped(), residual=self.residual.swapped() if self.residual else None, swapped=True,
        )  # fmt: skip

    def _flattened(self, widest: int) -> Geometry:
        """With stride 1 a row of dense pixels is one long vector of channels whose weights repeat."""
        steps = {s.column for s in (self.x, self.y, self.residual) if s is not None}
        fits = widest % self.channels == 0 and self.channels < widest and self.columns > 1
        if not fits or self.stride_w != 1 or self.multiplier != 1 or steps != {self.channels}:
            return self
        return replace(self, channels=self.columns * self.channels, columns=1)

    @property
    def overlap(self) -> int:
        """Outputs of a row that one column of the input belongs to."""
        return (self.kw - 1) * self.dilation_w // self.stride_w + 1

    @property
    def task_rows(self) -> int:
        """Output rows of a task, the same on every target; tiles of 1, 2 or 4 rows divide it."""
        return 2 if self.rows <= FEW_ROWS else 4

    @property
    def tasks_per_image(self) -> int:
        """Blocks of rows, the last one may be smaller."""
        return -(-self.rows // self.task_rows)

    @property
    def flat(self) -> bool:
        """Rows are one long vector."""
        return self.period != self.channels


@dataclass(frozen=True)
class Chunks:
    """`count` chunks of equal width, side by side.

    Attributes:
        first: output channel of the first one.
        step: output channels from one chunk to the next.
        valid: channels of each that are stored.
        width: channels computed, whole registers.
        position: lane of the first one in the parameters; `position_step` to the next.
        block: number of the first one's weights; `block_step` to the next.
    """

    count: int
    first: int
    step: int
    valid: int
    width: int
    position: int
    position_step: int
    block: int
    block_step: int


@dataclass(frozen=True)
class Entry:
    """One packed group of weights: output row `row` of a tile, group `group` of its window, kernel column `column`."""

    row: int
    group: int
    column: int


@dataclass(frozen=True)
class Plan:
    """Everything the generator decides before it writes code.

    Attributes:
        tile_rows: output rows that are computed together.
        tile_columns: outputs of a row that are computed together.
        unrolled: taps are written out; else loops go over them (large kernels).
        sliding: a row of outputs is computed column by column, `tile_columns` is all of them.
    """

    geometry: Geometry
    product: DepthwiseProduct
    chunks: tuple[Chunks, ...]
    tile_rows: int
    tile_columns: int
    unrolled: bool
    sliding: bool = False

    @classmethod
    def of(cls, spec: DepthwiseSpec, product: DepthwiseProduct) -> Plan:
        """The plan with the spec's tile, or with the one that costs the fewest instructions a row."""
        ranked = cls.ranked(spec, product)
        return next((plan for _, plan in ranked if spec.tile in (None, plan.tile)), ranked[0][1])

    @classmethod
    def ranked(cls, spec: DepthwiseSpec, product: DepthwiseProduct) -> list[tuple[float, Plan]]:
        """(instructions per output row and register, plan) of every tile, the cheapest first; never empty."""
        geometry = Geometry.of(spec, product.widths[0])
        chunks = _chunks(geometry, product.widths)
        registers = chunks[0].width // product.lanes
        found: list[tuple[float, Plan]] = []
        small = geometry.kh * geometry.kw <= UNROLLED_TAPS
        counts = _row_counts(geometry, product) if small else []
        if product.slides and not spec.epilogue.lut and geometry.columns > 1:
            for rows in counts:
                if rows * geometry.overlap * registers <= product.registers:
                    plan = cls(geometry, product, chunks, rows, geometry.columns, True, True)
                    found.append((plan._cost(), plan))
        for rows in [] if found else counts:
            for columns in range(1, geometry.columns + 1):
                # Without a table an output is stored as soon as the last of its columns was added.
                kept = columns if spec.epilogue.lut else min(columns, geometry.overlap)
                if rows * kept * registers > max(product.registers, registers):
                    break
                plan = cls(geometry, product, chunks, rows, columns, True)
                if plan._steps(columns) * registers <= UNROLLED_STEPS:
                    found.append((plan._cost(), plan))
        if not found:
            columns = max(1, min(geometry.columns, product.registers // registers, 4))
            found.append((0.0, cls(geometry, product, chunks, 1, columns, False)))
        return sorted(found, key=lambda entry: (entry[0], entry[1].tile))

    # --- tiles --------------------------------------------------------------------------------------------------------

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of outputs that are computed together."""
        return self.tile_rows, self.tile_columns

    @property
    def shift(self) -> int:
        """Taps from one output row of a tile to the next."""
        return self.geometry.stride_h // self.geometry.dilation_h if self.tile_rows > 1 else 0

    def window(self, rows: int) -> int:
        """Taps below each other that `rows` output rows need."""
        return self.geometry.kh + (rows - 1) * self.shift

    def groups(self, rows: int) -> int:
        """Groups of the window."""
        return -(-self.window(rows) // self.product.group)

    def uses(self, row: int, group: int) -> bool:
        """Whether output row `row` of a tile has taps in this group of the window."""
        first, last = row * self.shift, row * self.shift + self.geometry.kh - 1
        start = group * self.product.group
        return start <= last and first < start + self.product.group

    @cached_property
    def entries(self) -> dict[Entry, int]:
        """Packed groups of weights with their place; those of a last, smaller tile are among them."""
        result: dict[Entry, int] = {}
        for row in range(self.tile_rows):
            for group in range(self.groups(self.tile_rows)):
                if self.uses(row, group):
                    for column in range(self.geometry.kw):
                        result[Entry(row, group, column)] = len(result)
        return result

    def users(self, columns: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """(input column of the tile, [(output, kernel column)]) in ascending order."""
        g = self.geometry
        found: dict[int, list[tuple[int, int]]] = {}
        for output in range(columns):
            for k in range(g.kw):
                found.setdefault(output * g.stride_w + k * g.dilation_w, []).append((output, k))
        yield from sorted(found.items())

    def _steps(self, columns: int) -> int:
        """Product instructions of a tile, per register."""
        return columns * len(self.entries)

    def _cost(self) -> float:
        """Instructions per output row and register; part tiles count as they are."""
        g = self.geometry
        arranged = self.groups(self.tile_rows) * ARRANGING

        def tile(columns: int) -> float:
            inputs = sum(1 for _ in self.users(columns))
            return self._steps(columns) + inputs * arranged + columns * self.tile_rows * FINISHING

        full, rest = divmod(g.columns, self.tile_columns)
        row = full * tile(self.tile_columns) + (tile(rest) + 2 if rest else 0)
        return row * -(-g.rows // self.tile_rows) / g.rows

    # --- weights and parameters --------------------------------------------------------------------------------------

    @property
    def block_channels(self) -> list[tuple[np.ndarray, int]]:
        """(output channel of each lane, width) of every block of weights; −1 where a lane has no channel."""
        result = []
        for chunks in self.chunks:
            for k in range(chunks.count if chunks.block_step else 1):
                start = chunks.first + k * chunks.step
                lanes = self.product.channels(chunks.width) + start
                end = chunks.first + chunks.step * k + (chunks.width if self.geometry.flat else chunks.valid)
                lanes = np.where(lanes < end, lanes, -1)
                result.append((np.where(lanes < 0, -1, lanes % self.geometry.period), chunks.width))
            if not chunks.block_step:
                break
        return result

    @property
    def lane_channels(self) -> np.ndarray:
        """int64: output channel of each lane of the parameters, −1 where there is none."""
        return np.concatenate([channels for channels, _ in self.block_channels])

    @property
    def vectors(self) -> int:
        """Registers of a full block of the parameters' layout (epilogue.ChannelLayout)."""
        widths = {chunks.width for chunks in self.chunks}
        return min(2, min(widths) // self.product.lanes) if len(widths) == 1 else 2

    def block_elements(self, width: int) -> int:
        """Weight elements of one chunk."""
        return len(self.entries) * self.product.group * width

    def block_offset(self, chunks: Chunks) -> int:
        """Element where the weights of the first of these chunks begin."""
        return sum(self.block_elements(width) for _, width in self.block_channels[: chunks.block])


def _row_counts(geometry: Geometry, product: DepthwiseProduct) -> list[int]:
    """Rows of outputs that a tile may have."""
    shared = product.shares_rows and geometry.stride_h % geometry.dilation_h == 0
    return [rows for rows in ((1, 2, 4) if shared else (1,)) if rows <= min(geometry.rows, geometry.task_rows)]


def _chunks(geometry: Geometry, widths: tuple[int, ...]) -> tuple[Chunks, ...]:
    if geometry.flat:
        return _repeated(geometry.channels, widths[0], widths[0], shared=True)
    if geometry.multiplier > 1:
        width = widths[-1]
        m = geometry.multiplier
        valid = width // m * m if m <= width else max(d for d in range(1, width + 1) if m % d == 0)
        return _repeated(geometry.channels, width, valid, shared=False)
    result: list[Chunks] = []
    start = block = 0
    for width in widths:
        # A rest that fills more than half of this width is one chunk more, stored in part.
        rest = geometry.channels - start
        full, over = divmod(rest, width)
        total = full + (over > (width // 2 if width > widths[-1] else 0))
        if full:
            result.append(Chunks(full, start, width, width, width, start, width, block, 1))
        if total > full:
            first = start + full * width
            valid = geometry.channels - first
            result.append(Chunks(1, first, valid, valid, width, first, width, block + full, 1))
            break
        start, block = start + full * width, block + full
    return tuple(result)


def _repeated(channels: int, width: int, valid: int, *, shared: bool) -> tuple[Chunks, ...]:
    """Chunks of one width that store `valid` channels each, and a last one with the rest."""
    step = 0 if shared else 1
    full, rest = divmod(channels, valid)
    result = []
    if full:
        result.append(Chunks(full, 0, valid, valid, width, 0, width * step, 0, step))
    if rest:
        result.append(Chunks(1, full * valid, rest, rest, width, full * width * step, width * step, full * step, step))
    return tuple(result)
