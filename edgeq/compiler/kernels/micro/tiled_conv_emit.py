"""Emits what the families of tiled_conv.py share: rows -> tiles of pixels -> blocks of channels -> epilogue.

Imports tvm. A family adds how activations are gathered and which inner loop is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeq.compiler.isa.cortex_m import dsp
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.epilogue.scalar import RECORD_WORDS, ScalarEpilogue
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.micro.tiled_conv import TiledConvSpec
    from edgeq.compiler.target import Target


@contextmanager
def loop(count: int) -> Iterator[Expr]:
    """A serial loop, or nothing around a single pass."""
    if count == 1:
        yield tir.const(0)
    else:
        with T.serial(0, count) as index:
            yield index


class Place(NamedTuple):
    """Elements where a row or a pixel begins: in x, y and the residual."""

    x: Expr
    y: Expr
    residual: Expr | None


class TiledEmitter:
    """One convolution; `emit` is what a family's `build` returns."""

    spec: TiledConvSpec

    def __init__(self, spec: TiledConvSpec, buffers: dict[str, Expr]) -> None:
        self.spec, self.buffers, self.tile, self.block = spec, buffers, spec.tile, spec.block
        self.x, self.y, self.residual = spec.images
        self.epilogue = ScalarEpilogue(
            spec.conv.epilogue, dsp.saturate, buffers["params"], buffers.get("table"), buffers.get("residual")
        )

    @classmethod
    def emit(cls, spec: TiledConvSpec, target: Target) -> Any:
        """The PrimFunc."""
        parameters = spec.parameters(target)
        with tir.kernel(spec.symbol(target), parameters, words_aligned=True) as (out, t0, t1, buffers):
            named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
            cls(spec, named).rows(t0, t1)
        return out[0]

    # --- what a family defines ----------------------------------------------------------------------------------------

    def gather(self, sources: list[Expr]) -> None:
        """Brings the K activations of the tile's pixels, windows beginning at `sources` in x, into scratch memory."""
        raise NotImplementedError

    def accumulate(self, block: Expr) -> None:
        """Calls the inner loop for one block: from starts in the first words of scratch memory to sums there."""
        raise NotImplementedError

    def fraction(self, channel: int) -> int:
        """Bits that the sums of a block's channel lie to the left."""
        return 0

    # ------------------------------------------------------------------------------------------------------------------

    def rows(self, t0: Expr, t1: Expr) -> None:
        """One task is a row of pixels, or an image."""
        tile, r = self.spec.tile, self.residual
        with loops.span(t0, t1) as task:
            if self.spec.raster:
                self._raster(task)
                return
            n, oy = tir.bind(loops.divide(task, self.y.h)), tir.bind(loops.remainder(task, self.y.h))
            row = self._place(n, oy, tir.const(0))
            full, rest = divmod(self.y.w, tile)
            if full and rest and r is None:
                with T.serial(0, full + 1) as index:
                    first = tir.bind(tir.tirx.min(index * tile, tir.const(self.y.w - tile)))
                    self._tile([self._along(row, first + k) for k in range(tile)])
                return
            if full:
                with loop(full) as index:
                    self._tile([self._along(row, index * tile + k) for k in range(tile)])
            if rest:
                self._tile([self._along(row, tir.const(full * tile + k)) for k in range(rest)])

    def _raster(self, n: Expr) -> None:
        """Tiles of pixels in the order of an image; the last one moves back to end with the image."""
        pixels, tile = self.y.h * self.y.w, self.spec.tile
        # A pixel that two tiles compute gets the same value twice, but not where the output lies over the residual.
        overlaps = pixels % tile != 0 and pixels > tile and self.residual is None
        full = pixels // tile + overlaps

        def places(first: Expr, count: int) -> list[Place]:
            found = []
            for k in range(count):
                number = tir.bind(first + k)
                oy, ox = tir.bind(loops.divide(number, self.y.w)), tir.bind(loops.remainder(number, self.y.w))
                found.append(self._place(n, oy, ox))
            return found

        if full:
            with loop(full) as index:
                first = index * tile
                self._tile(places(tir.tirx.min(first, tir.const(pixels - tile)) if overlaps else first, tile))
        if pixels % tile and not overlaps:
            self._tile(places(tir.const(pixels // tile * tile), pixels % tile))

    def _place(self, n: Expr, oy: Expr, ox: Expr) -> Place:
        """Where an output pixel begins; in x the first tap of its window."""
        c = self.spec.conv

        def at(image: Image, down: int = 1, right: int = 1) -> Expr:
            rows = n * image.image_stride + oy * (down * image.row_stride)
            return tir.bind(rows + ox * (right * image.pixel_stride))

        residual = None if self.residual is None else at(self.residual)
        return Place(at(self.x, c.stride_h, c.stride_w), at(self.y), residual)

    def _along(self, row: Place, column: Expr) -> Place:
        """The pixel at a column of a row."""
        r = self.residual
        return Place(
            tir.bind(row.x + column * (self.spec.conv.stride_w * self.x.pixel_stride)),
            row.y + column * self.y.pixel_stride,
            None if r is None or row.residual is None else row.residual + column * r.pixel_stride,
        )

    def _tile(self, pixels: list[Place]) -> None:
        """The pixels of one tile; one that isn't full computes its last pixel several times and stores it once."""
        spec = self.spec
        self.gather([pixels[min(k, len(pixels) - 1)].x for k in range(spec.tile)])
        with loop(spec.blocks) as block:
            self._block(tir.bind(tir.i32(block)), pixels)

    def _block(self, block: Expr, pixels: list[Place]) -> None:
        """One block of channels of every pixel."""
        buffers, sums = self.buffers, self.buffers["scratch"]
        words, size = RECORD_WORDS[self.epilogue.epilogue.form], self.block
        records = [tir.bind(block * (size * words) + channel * words) for channel in range(size)]
        for channel, record in enumerate(records):
            tir.store(sums, channel, tir.load(buffers["params"], record))
        self.accumulate(block)
        first = tir.bind(block * size)
        for channel, record in enumerate(records):
            constants = self.epilogue.constants(record)
            with self._present(first + channel, channel):
                for number, pixel in enumerate(pixels):
                    total = tir.bind(tir.load(sums, channel * self.tile + number))
                    at = None if pixel.residual is None else pixel.residual + first + channel
                    value = self.epilogue.finish(total, constants, at, self.fraction(channel))
                    tir.store(buffers["y"], pixel.y + first + channel, value)

    @contextmanager
    def _present(self, channel: Expr, place: int) -> Iterator[None]:
        """Around what is done for one channel of a block: the last block may have fewer."""
        spec = self.spec
        missing = spec.blocks * spec.block - spec.conv.y.c
        if place >= spec.block - missing:
            with T.If(channel < spec.conv.y.c), T.Then():
                yield
        else:
            yield
