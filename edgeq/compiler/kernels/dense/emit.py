"""Emits a dense convolution: units -> staging -> channel blocks -> pixel tiles -> runs of K -> epilogue.

Imports tvm. What is cut how stands in plan.py; how a step multiplies in isa/products.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tvm.tirx import op as _op

from edgeq.compiler.isa.products import Run
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import CACHE_LINE, Image
from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter
from edgeq.compiler.kernels.epilogue.epilogue import isa_of, parameter_words
from edgeq.compiler.kernels.loops import span
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target

if TYPE_CHECKING:
    from edgeq.compiler.kernels.dense.conv import ConvSpec

_STAGE_LANES = 32
_MAPPED = 128  # channels that go through a table together: enough for the table's rows to be loaded once for many


def emit_conv(spec: ConvSpec, target: Target) -> Any:
    """The PrimFunc of a convolution."""
    with tir.kernel(spec.symbol(target), spec.parameters(target)) as (out, t0, t1, buffers):
        named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
        _ConvEmitter(spec, target, named).units(t0, t1)
    return out[0]


def _divide(value: Expr, by: int) -> tuple[Expr, Expr]:
    """(quotient, remainder) of a non-negative number."""
    if by == 1:
        return value, tir.const(0)
    return tir.bind(_op.truncdiv(value, tir.const(by))), tir.bind(_op.truncmod(value, tir.const(by)))


@contextmanager
def _loop(count: Expr | int) -> Iterator[Expr]:
    """A serial loop, or nothing at all around a single pass."""
    if isinstance(count, int) and count == 1:
        yield tir.const(0)
    else:
        with T.serial(0, count) as index:
            yield index


@dataclass(frozen=True)
class _Place:
    """Where a block or tile starts, in elements of x (as the loop reads it), y and the residual.

    Where tiles go on in the next row x, y and residual say where pixel 0 lies, and `pixel` is the first one's number.
    """

    x: Expr
    y: Expr
    residual: Expr | None
    pixel: Expr = 0

    def bind(self) -> _Place:
        residual = None if self.residual is None else tir.bind(self.residual)
        return _Place(tir.bind(self.x), tir.bind(self.y), residual, tir.bind(tir.i32(self.pixel)))

    def further(self, elements: Expr, *, x: Expr | int = 0) -> _Place:
        """So many elements further on in y and the residual."""
        residual = None if self.residual is None else self.residual + elements
        return _Place(self.x + x, self.y + elements, residual, self.pixel)


class _ConvEmitter:
    def __init__(self, spec: ConvSpec, target: Target, buffers: dict[str, Expr]) -> None:
        self.spec, self.target, self.buffers = spec, target, buffers
        self.plan, self.isa = spec.plan(target), isa_of(target)
        self.product = self.plan.product
        self.layout = spec.layout(target)
        self.staged = self.plan.staged_elements > 0
        self.x = buffers["scratch"] if self.staged else buffers["x"]
        image = self.plan.x
        self.row_stride = self.plan.staged_w * image.c if self.staged else image.row_stride
        self.pixel_stride = image.c if self.staged else image.pixel_stride
        # x's pixels have one step, so that a tile's rows differ by numbers that are known.
        self.even_input = not self.plan.folded or (image.n == image.h == 1 and self.plan.window.pointwise)
        self.zero: Expr = 0

    def units(self, t0: Expr, t1: Expr) -> None:
        """Tasks are equal shares of the units."""
        plan, tasks = self.plan, self.spec.tasks()
        begin, end = (tir.bind(_op.truncdiv(t * plan.units, tir.const(tasks))) for t in (t0, t1))
        self.zero = tir.bind(_op.shift_right(t0, tir.const(31)))  # tasks are never negative, but LLVM doesn't know
        with span(begin, end) as unit:
            block, split = _divide(unit, plan.tiling.column_splits)
            rows, column = _divide(block, plan.blocks_w)
            image, row = _divide(rows, plan.blocks_h)
            self._block(image, row * plan.tiling.block_h, column * plan.tiling.block_w, split)

    def _block(self, image: Expr, oy: Expr, ox: Expr, split: Expr) -> None:
        """One block of output pixels (height and width may end early at the image's edge)."""
        plan, w = self.plan, self.plan.window
        _, rows, columns = plan.pixels
        height: Expr | int = rows if plan.blocks_h == 1 else _at_most(plan.tiling.block_h, rows - oy)
        width: Expr | int = columns if plan.blocks_w == 1 else _at_most(plan.tiling.block_w, columns - ox)
        x: Expr = tir.const(0)
        if self.even_input:
            down, right = w.stride_h * plan.x.row_stride, w.stride_w * plan.x.pixel_stride
            x = image * plan.x.image_stride + oy * down + ox * right
        if self.staged:
            self._stage(tir.bind(x), oy, ox)
            x = tir.const(0)
        y = self._output_place(plan.y, image, oy, ox)
        residual = None if plan.residual is None else self._output_place(plan.residual, image, oy, ox)
        place = _Place(x, y, residual, ox).bind()
        with _loop(plan.groups) as group:
            own = place.further(group * plan.out_channels, x=group * plan.in_channels)
            self._channels(own, group, split, height, width)

    def _output_place(self, to: Image, image: Expr, oy: Expr, ox: Expr) -> Expr:
        if self.plan.folded:
            return tir.const(0)
        return image * to.image_stride + oy * to.row_stride + ox * to.pixel_stride

    def _stage(self, origin: Expr, oy: Expr, ox: Expr) -> None:
        """Copies a block's activations to scratch, widened to s16, without gaps between pixels."""
        plan, w = self.plan, self.plan.window
        x, channels = plan.x, plan.x.c
        rows: Expr | int = plan.staged_h
        columns: Expr | int = plan.staged_w
        if plan.blocks_h > 1:
            rows = _at_most(plan.staged_h, x.h - oy * w.stride_h)
        if plan.blocks_w > 1:
            columns = _at_most(plan.staged_w, x.w - ox * w.stride_w)
        if x.pixel_stride != channels:
            with _loop(rows) as row, _loop(columns) as column:
                source = origin + row * x.row_stride + column * x.pixel_stride
                self._widen(source, row * self.row_stride + column * channels, channels)
        elif plan.staged_w == x.w and x.row_stride == self.row_stride:
            self._widen(origin, tir.const(0), rows * self.row_stride)
        else:
            with _loop(rows) as row:
                self._widen(origin + row * x.row_stride, row * self.row_stride, columns * channels)

    def _widen(self, source: Expr, place: Expr, count: Expr | int) -> None:
        """scratch[place …] = x[source …]; runs over the end by less than a vector: later copies or slack are there."""
        x, scratch = self.buffers["x"], self.buffers["scratch"]
        lanes = min(_STAGE_LANES, max(8, 1 << (count - 1).bit_length())) if isinstance(count, int) else _STAGE_LANES
        steps = -(-count // lanes) if isinstance(count, int) else _op.truncdiv(count + (lanes - 1), tir.const(lanes))
        source, place = tir.bind(source), tir.bind(place)
        with _loop(steps) as step:
            wide = tir.cast(f"int16x{lanes}", tir.vload(x, source + step * lanes, lanes))
            tir.vstore(scratch, place + step * lanes, wide, lanes)

    def _channels(self, place: _Place, group: Expr, split: Expr, height: Expr | int, width: Expr | int) -> None:
        """All channel blocks of a group: full ones in a loop, what remains by itself."""
        plan, vectors = self.plan, self.plan.tiling.vectors
        step = vectors * self.isa.lanes
        full, rest = divmod(plan.out_channels, step)
        words = parameter_words(self.spec.epilogue, self.target, self.layout)
        emitter = self._epilogue(group * words if plan.groups > 1 else 0)
        group_bytes = self.spec.weight_bytes(self.target) // plan.groups
        block_bytes = plan.block_bytes(vectors)
        splits = plan.tiling.column_splits
        share = -(-(full + (rest > 0)) // splits)
        first = split * share if splits > 1 else tir.const(0)

        def one(block: Expr, registers: int, count: int) -> None:
            position = tir.bind(block * step)
            own = place.further(position).bind()
            weights = tir.bind(group * group_bytes + block * block_bytes)
            self._pixels(own, _Tile(emitter, position, registers, count, weights), height, width)

        def kind(begin: int, end: int, registers: int, count: int) -> None:
            low = tir.tirx.Max(first, tir.const(begin)) if splits > 1 else tir.const(begin)
            high = tir.tirx.Min(first + share, tir.const(end)) if splits > 1 else tir.const(end)
            with span(low, high) as block:
                one(block, registers, count)

        mapped = 0
        if self.spec.maps_blocks(self.target):
            # As many blocks at a time as fill whole registers of bytes: what was just stored goes through the table.
            many = math.lcm(step, self.target.vector_bytes) // step
            times = max(1, min(_MAPPED // (many * step), share // many))
            many *= next(t for t in range(times, 0, -1) if splits == 1 or share % (many * t) == 0)
            mapped = full // many * many
            if mapped:
                with _loop((full if splits == 1 else share) // many) as chunk:
                    begin = tir.bind(first + chunk * many)
                    with _loop(many) as block:
                        one(begin + block, vectors, step)
                    self._map(place.further(begin * step).bind(), many * step, height, width)
        if full > mapped:
            kind(mapped, full, vectors, step)
        if rest:
            kind(full, full + 1, -(-rest // self.isa.lanes), rest)
        if self.spec.maps_blocks(self.target) and mapped * step < plan.out_channels:
            self._map(place.further(mapped * step).bind(), plan.out_channels - mapped * step, height, width)

    def _map(self, place: _Place, channels: int, height: Expr | int, width: Expr | int) -> None:
        """Sends stored channels of a block's pixels through the table, in place."""
        vector, emitter = self.target.vector_bytes, self._epilogue(0)
        with _loop(height) as row, _loop(width) as column:
            pixel = tir.bind(self._unfolded(self._shift(place, row, column)).y)
            full, rest = divmod(channels, vector)
            if full:
                with _loop(full) as at:
                    emitter.map_stored(self.buffers["y"], tir.bind(pixel + at * vector), vector, vector)
            if rest:
                emitter.map_stored(self.buffers["y"], tir.bind(pixel + full * vector), rest, vector)

    def _epilogue(self, base: Expr | int) -> EpilogueEmitter:
        """The epilogue of the group whose parameters start at `base`; without the table where that is applied later."""
        later = self.spec.maps_blocks(self.target)
        epilogue = replace(self.spec.epilogue, lut=False) if later else self.spec.epilogue
        return EpilogueEmitter(
            epilogue,
            self.target,
            self.layout,
            self.buffers["params"],
            table=self.buffers.get("table"),
            residual=self.buffers.get("residual"),
            base=base,
        )

    def _pixels(self, place: _Place, tile: _Tile, height: Expr | int, width: Expr | int) -> None:
        """All tiles of a block: whole ones, then the smaller ones at the edge."""
        tile_h, tile_w = self.plan.tiling.tile_h, self.plan.tiling.tile_w
        for h, row0, rows in _cut(height, tile_h, self.plan.pixels[1]):
            for w, column0, columns in _cut(width, tile_w, self.plan.pixels[2]):
                with _loop(rows) as row, _loop(columns) as column:
                    if self.isa.fetches and self.plan.fetched_lines and (h, w) == (tile_h, tile_w):
                        self._fetch(tile, row * (self.plan.tiling.block_w // tile_w) + column)
                    self._tile(self._shift(place, row0 + row * h, column0 + column * w).bind(), tile, h, w)

    def _fetch(self, tile: _Tile, number: Expr) -> None:
        """Asks for this tile's share of the weights of the next block of channels, which come from far away."""
        lines = self.plan.fetched_lines
        start = tile.weights + self.plan.block_bytes(tile.vectors) + number * (lines * CACHE_LINE)
        with _loop(lines) as line:
            tir.fetch(self.buffers["w"], start + line * CACHE_LINE)

    def _shift(self, place: _Place, row: Expr, column: Expr) -> _Place:
        """The place of another tile; rows are 0 where tiles go on in the next one."""
        plan, w = self.plan, self.plan.window
        x = place.x
        if self.even_input:
            x = x + row * (w.stride_h * self.row_stride) + column * (w.stride_w * self.pixel_stride)
        if plan.folded:
            return replace(place, x=x, pixel=place.pixel + column)
        y = place.y + row * plan.y.row_stride + column * plan.y.pixel_stride
        if plan.residual is None or place.residual is None:
            return _Place(x, y, None)
        residual = place.residual + row * plan.residual.row_stride + column * plan.residual.pixel_stride
        return _Place(x, y, residual)

    def _rows(self, place: _Place, tile_h: int, tile_w: int) -> list[_Place]:
        """The places of a tile's pixels."""
        shifted = [self._shift(place, tir.const(i), tir.const(j)) for i in range(tile_h) for j in range(tile_w)]
        return [self._unfolded(pixel).bind() for pixel in shifted] if self.plan.folded else shifted

    def _unfolded(self, place: _Place) -> _Place:
        """The place of one pixel with its number made good."""
        plan, w = self.plan, self.plan.window
        if not plan.folded:
            return place
        x = place.x
        if not self.even_input:
            strides = replace(
                plan.x,
                row_stride=w.stride_h * self.row_stride,
                pixel_stride=w.stride_w * self.pixel_stride,
            )
            x = x + self._spread(strides, place.pixel)
        y = place.y + self._spread(plan.y, place.pixel)
        if plan.residual is None or place.residual is None:
            return _Place(x, y, None)
        return _Place(x, y, place.residual + self._spread(plan.residual, place.pixel))

    def _spread(self, image: Image, pixel: Expr) -> Expr:
        """The element of an image (of its strides; of y's size) where the output pixel with this number lies."""
        height, width = self.plan.y.h, self.plan.y.w
        place = pixel * image.pixel_stride
        for count, stride, before in (
            (width, image.row_stride, width * image.pixel_stride),
            (width * height, image.image_stride, height * image.row_stride),
        ):
            if stride != before and count < self.plan.pixels[2]:
                place = place + _op.truncdiv(pixel, tir.const(count)) * (stride - before)
        return place

    def _tile(self, place: _Place, tile: _Tile, tile_h: int, tile_w: int) -> None:
        """Accumulates tile_h × tile_w pixels of one channel block in registers and finishes them."""
        rows, vectors, runs, product = tile_h * tile_w, tile.vectors, self.plan.runs, self.product
        words = bool(self.spec.epilogue.words)
        zeros = [tir.broadcast(tir.const(0), self.isa.lanes)] * vectors
        bias = zeros if words else [tir.bind(register) for register in tile.emitter.bias(tile.position, vectors)]
        starts = [bias] * rows
        initial = product.initial(starts)
        acc = tir.alloc(len(initial), f"int32x{self.isa.lanes}")
        for number, value in enumerate(initial):
            tir.store(acc, number, value)
        offsets = [self._shift(_zero(place), row // tile_w, row % tile_w) for row in range(rows)]
        pixels = self._rows(place, tile_h, tile_w)
        run_bytes = product.run_bytes(runs.groups, vectors)
        rows_of_runs, columns_of_runs = (1, 1) if product.whole else (runs.rows, runs.columns)
        with _loop(rows_of_runs) as i, _loop(columns_of_runs) as j:
            step = i * runs.row_step + j * runs.column_step
            x = tir.bind(place.x + step if self.even_input else step)
            w = tir.bind(tile.weights + (i * runs.columns + j) * run_bytes)
            product.accumulate(
                Run(
                    acc=acc,
                    rows=rows,
                    vectors=vectors,
                    x=self.x,
                    x_index=lambda row: x + (offsets[row].x if self.even_input else pixels[row].x),
                    w=self.buffers["w"],
                    w_index=w,
                    groups=runs.groups,
                    zero=self.zero,
                )
            )
        sums = [tir.load(acc, number) for number in range(len(initial))]
        if words:
            for registers, to in zip(product.word_sums(sums, rows, vectors), pixels, strict=True):
                tile.emitter.write_words(registers, tile.position, self.buffers["y"], to.y, tile.count)
            return
        results = product.results(sums, starts)
        if product.counts:
            factors = [tir.bind(register) for register in tile.emitter.factors(tile.position, vectors)]
            results = [[b - n * f for b, n, f in zip(bias, line, factors, strict=True)] for line in results]
        if tile.emitter.epilogue.lut:
            self._write_mapped(results, place, tile, tile_h, tile_w)
            return
        for registers, to in zip(results, pixels, strict=True):
            tile.emitter.write(
                registers, tile.position, self.buffers["y"], to.y, tile.count, residual_index=to.residual
            )

    def _write_mapped(self, results: list[list[Expr]], place: _Place, tile: _Tile, tile_h: int, tile_w: int) -> None:
        """Finishes a tile whose epilogue has a table: all its bytes together."""
        scratch, start = self.buffers["scratch"], self.spec.staged_words(self.target)
        words = tile.vectors * self.isa.lanes // 2
        for row, registers in enumerate(results):
            tile.emitter.stage_bytes(registers, tile.position, scratch, start + row * words)
        tile.emitter.map_bytes(scratch, start, len(results) * words * 2, self.target.vector_bytes)
        with _loop(tile_h) as i, _loop(tile_w) as j:
            to = self._unfolded(self._shift(place, i, j))
            tile.emitter.finish_bytes(
                scratch,
                start + (i * tile_w + j) * words,
                tile.vectors,
                self.buffers["y"],
                to.y,
                tile.count,
                residual_index=to.residual,
            )


@dataclass(frozen=True)
class _Tile:
    """One block of channels: first lane, registers, channels to store, and where its weights start."""

    emitter: EpilogueEmitter
    position: Expr
    vectors: int
    count: int
    weights: Expr


def _zero(place: _Place) -> _Place:
    return _Place(0, 0, None if place.residual is None else 0)


def _at_most(limit: int, value: Expr) -> Expr:
    return tir.bind(tir.tirx.Min(value, tir.const(limit)))


def _cut(extent: Expr | int, step: int, whole: int) -> list[tuple[int, Expr | int, Expr | int]]:
    """(size, start, how many) of the full pieces of an extent and of what is left.

    Args:
        extent: pixels of the block, a number or an expression.
        step: pixels of a full piece.
        whole: pixels of the image; blocks are whole pieces, so only the last one can have a rest: whole % step.
    """
    rest = whole % step
    if isinstance(extent, int):
        pieces: list[tuple[int, Expr | int, Expr | int]] = [(step, 0, extent // step)] if extent >= step else []
        return pieces + ([(rest, extent - rest, 1)] if rest else [])
    full = tir.bind(_op.truncdiv(extent, tir.const(step)))
    pieces = [(step, 0, full)]
    if rest:
        left = tir.bind(_op.truncdiv(extent - full * step + (step - 1), tir.const(step)))  # 0 or 1
        pieces.append((rest, full * step, left))
    return pieces
