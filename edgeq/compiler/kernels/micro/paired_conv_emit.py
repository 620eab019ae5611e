"""Emits paired_conv.py: activations as halfwords, two k of each pixel in turn. Imports tvm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tvm.tirx import op as _op

from edgeq.compiler.isa.cortex_m import dsp
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.epilogue.scalar import ScalarEpilogue
from edgeq.compiler.kernels.micro.paired_conv import LANE_BITS, PairedConvSpec
from edgeq.compiler.kernels.micro.tiled_conv import SUMS
from edgeq.compiler.kernels.micro.tiled_conv_emit import Place, TiledEmitter, loop
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.micro.paired_conv_any import PairedPointwiseForm
    from edgeq.compiler.target import Target


def emit(spec: PairedConvSpec, target: Target) -> Any:
    """The PrimFunc of a paired convolution."""
    return _Emitter.emit(spec, target)


def emit_any(form: PairedPointwiseForm, symbol: str, parameters: list[tuple[str, str, int]]) -> Any:
    """The PrimFunc for all pointwise convolutions of a form."""
    with tir.kernel(symbol, parameters, words_aligned=True) as (out, t0, t1, buffers):
        named = dict(zip([name for name, _, _ in parameters], buffers, strict=True))
        _AnyEmitter(form, named).rows(t0, t1)
    return out[0]


class Sizes(NamedTuple):
    """The operand `sizes` without the epilogue's two words (paired_conv_any.any_size)."""

    x_row: Expr
    x_pixel: Expr
    y_row: Expr
    y_pixel: Expr
    columns: Expr
    tiles: Expr
    last: Expr
    blocks: Expr
    block_words: Expr
    quads: Expr
    end: Expr


SIZES = len(Sizes._fields)


class _Emitter(TiledEmitter):
    spec: PairedConvSpec

    def gather(self, sources: list[Expr]) -> None:
        """Every pixel's K activations as s16 in scratch memory, two k of each in turn."""
        spec, c = self.spec, self.spec.conv
        runs, length = spec.taps
        columns = runs // c.kh
        with loop(c.kh) as row, loop(columns) as column:
            offset = tir.bind(row * (c.dilation_h * self.x.row_stride) + column * (c.dilation_w * self.x.pixel_stride))
            places = [tir.bind(origin + offset) for origin in sources]
            first = tir.bind((row * columns + column) * length)
            if spec.quads:
                self._widen_quads(places, first, length)
            else:
                self._widen_elements(places, first, length)

    def _widen_quads(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Runs of whole words; their order in scratch memory is 0, 2, 1, 3."""
        start = tir.bind(first * self.tile // 2 + SUMS)
        with loop(length // 4) as quad:
            self.widen_quad(sources, start, quad)

    def widen_quad(self, sources: list[Expr], start: Expr, quad: Expr) -> None:
        """Four k of every pixel."""
        x, scratch, tile = self.buffers["x"], self.buffers["scratch"], self.tile
        words = [tir.bind(tir.reinterpret("int32", tir.vload(x, at + quad * 4, 4))) for at in sources]
        for half, unpack in enumerate((dsp.even_bytes, dsp.odd_bytes)):
            for pixel, word in enumerate(words):
                tir.store(scratch, start + quad * (2 * tile) + (half * tile + pixel), unpack(word))

    def _widen_elements(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Other runs: halfwords in plain order."""
        x, halves, tile = self.buffers["x"], tir.elements(self.buffers["scratch"], "int16"), self.spec.tile
        with loop(length) as index:
            k = tir.bind(first + index)
            place = tir.bind(_op.shift_right(k, tir.const(1)) * (2 * tile) + (k & 1) + 2 * SUMS)
            for pixel, at in enumerate(sources):
                tir.store(halves, place + 2 * pixel, tir.cast("int16", tir.load(x, at + index)))

    def accumulate(self, block: Expr) -> None:
        spec, sums = self.spec, self.buffers["scratch"]
        weights = tir.address(self.buffers["w"], block * (spec.block * spec.depth // 4))
        ends = [tir.address(sums, SUMS + part * spec.depth * spec.tile // 2) for part in range(2)]
        tir.call("edgeq_dsp_dot_1x4" if spec.single else "edgeq_dsp_dot_4x2", weights, *ends, tir.address(sums, 0))

    def fraction(self, channel: int) -> int:
        return LANE_BITS if channel % 2 else 0


class _AnyEmitter(_Emitter):
    """Pointwise; strides and counts are read from the operand `sizes`, in the order of paired_conv_any.any_size."""

    def __init__(self, form: PairedPointwiseForm, buffers: dict[str, Expr]) -> None:
        self.form, self.buffers, self.residual = form, buffers, None
        self.tile, self.block = PairedConvSpec.pixels, PairedConvSpec.channels
        count = SIZES + (2 if form.epilogue.form == "narrow" else 0)
        numbers = [tir.bind(tir.load(buffers["sizes"], k)) for k in range(count)]
        self.sizes = Sizes(*numbers[:SIZES])
        scaling = (numbers[SIZES], numbers[SIZES + 1]) if len(numbers) > SIZES else None
        self.epilogue = ScalarEpilogue(
            form.epilogue, dsp.saturate, buffers["params"], buffers.get("table"), scaling=scaling
        )

    def rows(self, t0: Expr, t1: Expr) -> None:
        """One task is a row of pixels, or the image; the last tile may lie over its neighbour."""
        sizes = self.sizes
        with loops.span(t0, t1) as task, T.serial(0, sizes.tiles) as index:
            first = tir.bind(tir.tirx.min(index * self.tile, sizes.last))
            pixels = []
            for k in range(self.tile):
                row, column = task, first + k
                if self.form.raster:
                    number = tir.bind(first + k)
                    row = tir.bind(_op.truncdiv(number, sizes.columns))
                    column = tir.bind(number - row * sizes.columns)
                x = tir.bind(row * sizes.x_row + column * sizes.x_pixel)
                pixels.append(Place(x, tir.bind(row * sizes.y_row + column * sizes.y_pixel), None))
            with T.serial(0, sizes.quads) as quad:
                self.widen_quad([pixel.x for pixel in pixels], tir.const(SUMS), quad)
            with T.serial(0, sizes.blocks) as block:
                self._block(tir.bind(tir.i32(block)), pixels)

    def accumulate(self, block: Expr) -> None:
        sums = self.buffers["scratch"]
        weights = tir.address(self.buffers["w"], block * self.sizes.block_words)
        ends = [tir.address(sums, SUMS), tir.address(sums, self.sizes.end)]
        tir.call("edgeq_dsp_dot_4x2", weights, *ends, tir.address(sums, 0))

    @contextmanager
    def _present(self, channel: Expr, place: int) -> Iterator[None]:
        """Blocks are whole."""
        yield
