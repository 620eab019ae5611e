"""Emits paired_conv.py: rows -> tiles of pixels -> widening -> pairs of channels -> K -> epilogue. Imports tvm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from tvm.tirx import op as _op

from edgeq.compiler.isa import dsp
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.paired_conv import LANE_BITS, SUMS
from edgeq.compiler.kernels.scalar_epilogue import RECORD_WORDS, ScalarEpilogue
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.paired_conv import PairedConvSpec
    from edgeq.compiler.target import Target


def emit(spec: PairedConvSpec, target: Target) -> Any:
    """The PrimFunc of a paired convolution."""
    parameters = spec.parameters(target)
    with tir.kernel(spec.symbol(target), parameters, words_aligned=True) as (out, t0, t1, buffers):
        named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
        _Emitter(spec, named).rows(t0, t1)
    return out[0]


@contextmanager
def _loop(count: int) -> Iterator[Expr]:
    """A serial loop, or nothing around a single pass."""
    if count == 1:
        yield tir.const(0)
    else:
        with T.serial(0, count) as index:
            yield index


class _Row(NamedTuple):
    """Elements where a row or a pixel begins: in x, y and the residual."""

    x: Expr
    y: Expr
    residual: Expr | None


class _Emitter:
    def __init__(self, spec: PairedConvSpec, buffers: dict[str, Expr]) -> None:
        self.spec, self.buffers = spec, buffers
        self.x, self.y, self.residual = spec.images
        self.epilogue = ScalarEpilogue(
            spec.conv.epilogue, dsp.saturate, buffers["params"], buffers.get("table"), buffers.get("residual")
        )

    def rows(self, t0: Expr, t1: Expr) -> None:
        """One task is a row of pixels, or an image."""
        tile, r = self.spec.tile, self.residual
        with loops.span(t0, t1) as task:
            if self.spec.raster:
                self._raster(task)
                return
            n, oy = tir.bind(loops.divide(task, self.y.h)), tir.bind(loops.remainder(task, self.y.h))
            row = _Row(*(self._pixel(n, oy, tir.const(0), image) for image in (self.x, self.y, r)))
            full, rest = divmod(self.y.w, tile)
            if full and rest and r is None:
                with T.serial(0, full + 1) as index:
                    first = tir.bind(tir.tirx.min(index * tile, tir.const(self.y.w - tile)))
                    self._tile([self._along(row, first + k) for k in range(tile)])
                return
            with _loop(full) if full else nullcontext() as index:
                if full:
                    self._tile([self._along(row, index * tile + k) for k in range(tile)])
            if rest:
                self._tile([self._along(row, tir.const(full * tile + k)) for k in range(rest)])

    def _raster(self, n: Expr) -> None:
        """Tiles of pixels in the order of an image; the last one moves back to end with the image."""
        pixels, tile = self.y.h * self.y.w, self.spec.tile
        # A pixel that two tiles compute gets the same value twice, but not where the output lies over the residual.
        overlaps = pixels % tile != 0 and pixels > tile and self.residual is None
        full = pixels // tile + overlaps

        def places(first: Expr, count: int) -> list[_Row]:
            found = []
            for k in range(count):
                number = tir.bind(first + k)
                oy, ox = tir.bind(loops.divide(number, self.y.w)), tir.bind(loops.remainder(number, self.y.w))
                found.append(_Row(*(self._pixel(n, oy, ox, image) for image in (self.x, self.y, self.residual))))
            return found

        if full:
            with _loop(full) as index:
                first = index * tile
                self._tile(places(tir.tirx.min(first, tir.const(pixels - tile)) if overlaps else first, tile))
        if pixels % tile and not overlaps:
            self._tile(places(tir.const(pixels // tile * tile), pixels % tile))

    def _pixel(self, n: Expr, oy: Expr, ox: Expr, image: Image | None) -> Expr | None:
        """Where a pixel's first element lies; of the input, the first tap of the output pixel's window."""
        if image is None:
            return None
        c, is_input = self.spec.conv, image is self.x
        down, right = (c.stride_h, c.stride_w) if is_input else (1, 1)
        return tir.bind(n * image.image_stride + oy * (down * image.row_stride) + ox * (right * image.pixel_stride))

    def _along(self, row: _Row, column: Expr) -> _Row:
        """The pixel at a column of a row."""
        r = self.residual
        return _Row(
            tir.bind(row.x + column * (self.spec.conv.stride_w * self.x.pixel_stride)),
            row.y + column * self.y.pixel_stride,
            row.residual + column * r.pixel_stride if r is not None else None,
        )

    def _tile(self, pixels: list[_Row]) -> None:
        """The pixels of one tile; one that isn't full computes its last pixel several times and stores it once."""
        spec = self.spec
        self._widen([pixels[min(k, len(pixels) - 1)].x for k in range(spec.tile)])
        with _loop(spec.pairs // spec.block_pairs) as block:
            self._block(tir.bind(tir.i32(block)), pixels)

    def _widen(self, origins: list[Expr]) -> None:
        """Every pixel's K activations as s16 in scratch memory, two k of each in turn."""
        spec, c = self.spec, self.spec.conv
        runs, length = spec.taps
        columns = runs // c.kh
        with _loop(c.kh) as row, _loop(columns) as column:
            offset = tir.bind(row * (c.dilation_h * self.x.row_stride) + column * (c.dilation_w * self.x.pixel_stride))
            sources = [tir.bind(origin + offset) for origin in origins]
            first = tir.bind((row * columns + column) * length)
            if spec.quads:
                self._widen_quads(sources, first, length)
            else:
                self._widen_elements(sources, first, length)

    def _widen_quads(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Runs of whole words; their order in scratch memory is 0, 2, 1, 3."""
        x, scratch, tile = self.buffers["x"], self.buffers["scratch"], self.spec.tile
        start = tir.bind(first * tile // 2 + SUMS)
        with _loop(length // 4) as quad:
            words = [tir.bind(tir.reinterpret("int32", tir.vload(x, at + quad * 4, 4))) for at in sources]
            for half, unpack in enumerate((dsp.even_bytes, dsp.odd_bytes)):
                for pixel, word in enumerate(words):
                    tir.store(scratch, start + quad * (2 * tile) + (half * tile + pixel), unpack(word))

    def _widen_elements(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Other runs: halfwords in plain order."""
        x, halves, tile = self.buffers["x"], tir.halfwords(self.buffers["scratch"]), self.spec.tile
        with _loop(length) as index:
            k = tir.bind(first + index)
            place = tir.bind(_op.shift_right(k, tir.const(1)) * (2 * tile) + (k & 1) + 2 * SUMS)
            for pixel, at in enumerate(sources):
                tir.store(halves, place + 2 * pixel, tir.cast("int16", tir.load(x, at + index)))

    def _block(self, block: Expr, pixels: list[_Row]) -> None:
        """One pair of channels of every pixel, or two pairs of one pixel."""
        spec, buffers = self.spec, self.buffers
        words, pairs, tile = RECORD_WORDS[spec.conv.epilogue.form], spec.block_pairs, spec.tile
        sums = buffers["scratch"]
        records = [tir.bind(block * (2 * pairs * words) + channel * words) for channel in range(2 * pairs)]
        for channel, record in enumerate(records):
            tir.store(sums, channel, tir.load(buffers["params"], record))
        weights = tir.address(buffers["w"], block * (pairs * spec.depth // 2))
        ends = [tir.address(sums, SUMS + part * spec.depth * tile // 2) for part in range(2)]
        name = "edgeq_dsp_dot_1x4" if spec.single else "edgeq_dsp_dot_4x2"
        tir.call(name, weights, *ends, tir.address(sums, 0))
        channels = tir.bind(block * (2 * pairs))
        for channel, record in enumerate(records):
            constants = self.epilogue.constants(record)
            with self._present(channels + channel, channel):
                for number, pixel in enumerate(pixels):
                    total = tir.bind(tir.load(sums, channel * tile + number))
                    at = None if pixel.residual is None else pixel.residual + channels + channel
                    fraction = LANE_BITS if channel % 2 else 0
                    value = self.epilogue.finish(total, constants, at, fraction)
                    tir.store(buffers["y"], pixel.y + channels + channel, value)

    @contextmanager
    def _present(self, channel: Expr, place: int) -> Iterator[None]:
        """Around what is done for one channel of a block: the last block may have fewer."""
        spec = self.spec
        missing = 2 * spec.pairs - spec.conv.y.c
        if place >= 2 * spec.block_pairs - missing:
            with T.If(channel < spec.conv.y.c), T.Then():
                yield
        else:
            yield
