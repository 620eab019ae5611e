"""Emits dsp_depthwise.py: rows -> pairs of pixels -> words of channels -> taps -> epilogue. Imports tvm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.compiler.isa.cortex_m import dsp
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.epilogue.scalar import RECORD_WORDS, ScalarEpilogue
from edgeq.compiler.kernels.micro.dsp_depthwise import ORDER, QUAD, TILE_PIXELS
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
    from edgeq.compiler.kernels.micro.dsp_depthwise import DspDepthwiseSpec
    from edgeq.compiler.kernels.micro.dsp_depthwise_any import DspDepthwiseForm
    from edgeq.compiler.target import Target

UNROLLED_TAPS = 9  # larger windows loop over their rows


def emit(spec: DspDepthwiseSpec, target: Target) -> Any:
    """The PrimFunc of a depthwise convolution."""
    parameters = spec.parameters(target)
    with tir.kernel(spec.symbol(target), parameters, words_aligned=True) as (out, t0, t1, buffers):
        named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
        _Emitter(spec, named).rows(t0, t1)
    return out[0]


def emit_any(form: DspDepthwiseForm, symbol: str, parameters: list[tuple[str, str, int]]) -> Any:
    """The PrimFunc for all layers of a form."""
    with tir.kernel(symbol, parameters, words_aligned=True) as (out, t0, t1, buffers):
        named = dict(zip([name for name, _, _ in parameters], buffers, strict=True))
        _AnyEmitter(form, named).rows(t0, t1)
    return out[0]


class _Emitter:
    def __init__(self, spec: DspDepthwiseSpec, buffers: dict[str, Expr]) -> None:
        self.conv, self.buffers, self.quads = spec.conv, buffers, spec.quads
        self.window: DepthwiseSpec | DspDepthwiseForm = spec.conv
        self.x_row, self.x_pixel = spec.conv.x.row_stride, spec.conv.x.pixel_stride
        self.y_pixel = spec.conv.y.pixel_stride
        residual = self.conv.epilogue.residual
        self.residual = residual.image if residual else None
        self.epilogue = ScalarEpilogue(
            self.conv.epilogue, dsp.saturate, buffers["params"], buffers.get("table"), buffers.get("residual")
        )

    def rows(self, t0: Expr, t1: Expr) -> None:
        """One task is a row of pixels."""
        c = self.conv
        with loops.span(t0, t1) as task:
            n, oy = tir.bind(loops.divide(task, c.y.h)), tir.bind(loops.remainder(task, c.y.h))
            x = tir.bind(n * c.x.image_stride + oy * (c.stride_h * c.x.row_stride))
            y = tir.bind(n * c.y.image_stride + oy * c.y.row_stride)
            r = self.residual
            other = tir.bind(n * r.image_stride + oy * r.row_stride) if r else None
            full, rest = divmod(c.y.w, TILE_PIXELS)
            if rest and full and r is None:
                # The last tile lies over its neighbour: the same values once more.
                with T.serial(0, full + 1) as index:
                    first = tir.bind(tir.tirx.min(index * TILE_PIXELS, tir.const(c.y.w - TILE_PIXELS)))
                    self._tile(x, y, other, first, TILE_PIXELS)
                return
            if full:
                with T.serial(0, full) as index:
                    self._tile(x, y, other, index * TILE_PIXELS, TILE_PIXELS)
            if rest:
                self._tile(x, y, other, tir.const(full * TILE_PIXELS), rest)

    def _tile(self, x: Expr, y: Expr, other: Expr | None, first: Expr, pixels: int) -> None:
        x = tir.bind(x + first * (self.window.stride_w * self.x_pixel))
        y = tir.bind(y + first * self.y_pixel)
        beside = tir.bind(other + first * self.residual.pixel_stride) if self.residual and other is not None else None
        with T.serial(0, self.quads) as quad:
            self._quad(tir.bind(quad), x, y, beside, pixels)

    def _quad(self, quad: Expr, x: Expr, y: Expr, beside: Expr | None, pixels: int) -> None:
        """Four channels of the tile's pixels."""
        c, words = self.window, RECORD_WORDS[self.window.epilogue.form]
        records = [tir.bind(quad * (QUAD * words) + channel * words) for channel in range(QUAD)]
        acc = tir.alloc(pixels * QUAD, "int32")
        for channel, record in enumerate(records):
            start = tir.bind(tir.load(self.buffers["params"], record))
            for pixel in range(pixels):
                tir.store(acc, pixel * QUAD + channel, start)
        origin, weights = tir.bind(x + quad * QUAD), tir.bind(quad * (2 * c.kh * c.kw))
        if c.kh * c.kw <= UNROLLED_TAPS:
            for row in range(c.kh):
                self._row(acc, origin + (row * c.dilation_h) * self.x_row, weights + 2 * row * c.kw, pixels)
        else:
            with T.serial(0, c.kh) as row:
                at = tir.bind(origin + row * (c.dilation_h * self.x_row))
                self._row(acc, at, tir.bind(weights + row * (2 * c.kw)), pixels)
        for channel, record in enumerate(records):
            constants = self.epilogue.constants(record)
            for pixel in range(pixels):
                index = y + (pixel * self.y_pixel + channel) + quad * QUAD
                at = None
                if beside is not None and self.residual is not None:
                    at = beside + (pixel * self.residual.pixel_stride + channel) + quad * QUAD
                total = tir.bind(tir.load(acc, pixel * QUAD + channel))
                tir.store(self.buffers["y"], index, self.epilogue.finish(total, constants, at))

    def _row(self, acc: Expr, origin: Expr, weights: Expr, pixels: int) -> None:
        """One row of the window: every column is widened once for all pixels it belongs to."""
        c = self.window
        columns: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(pixels):
            for tap in range(c.kw):
                columns.setdefault(pixel * c.stride_w + tap * c.dilation_w, []).append((pixel, tap))
        for column in sorted(columns):
            index = origin + column * self.x_pixel
            word = tir.bind(tir.reinterpret("int32", tir.vload(self.buffers["x"], index, QUAD)))
            pairs = [tir.bind(dsp.even_bytes(word)), tir.bind(dsp.odd_bytes(word))]
            for pixel, tap in columns[column]:
                for place, channel in enumerate(ORDER):
                    factor = tir.load(self.buffers["weights"], weights + 2 * tap + place // 2)
                    upper, at = bool(place % 2), pixel * QUAD + channel
                    total = dsp.multiply(pairs[place // 2], upper, factor, upper, tir.load(acc, at))
                    tir.store(acc, at, tir.bind(total))


class _AnyEmitter(_Emitter):
    """Strides and counts are read from the operand `sizes`, in the order of dsp_depthwise_any.any_size."""

    def __init__(self, form: DspDepthwiseForm, buffers: dict[str, Expr]) -> None:
        self.window, self.buffers, self.residual = form, buffers, None
        sizes = [tir.bind(tir.load(buffers["sizes"], k)) for k in range(9 if form.epilogue.form == "narrow" else 7)]
        self.x_row, self.x_pixel, self.y_row, self.y_pixel, self.tiles, self.last, self.quads, *scaling = sizes
        known = (scaling[0], scaling[1]) if scaling else None
        self.epilogue = ScalarEpilogue(
            form.epilogue, dsp.saturate, buffers["params"], buffers.get("table"), scaling=known
        )

    def rows(self, t0: Expr, t1: Expr) -> None:
        """One task is a row of pixels; its last tile may lie over its neighbour: the same values once more."""
        with loops.span(t0, t1) as task:
            x, y = tir.bind(task * (self.window.stride_h * self.x_row)), tir.bind(task * self.y_row)
            with T.serial(0, self.tiles) as index:
                first = tir.bind(tir.tirx.min(index * TILE_PIXELS, self.last))
                self._tile(x, y, None, first, TILE_PIXELS)
