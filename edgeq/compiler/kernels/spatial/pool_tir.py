"""TIR of pool.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import op as _op

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, TVM_DTYPE, Image
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.epilogue.requantize_tir import ScaledWriter, scale_parameters
from edgeq.compiler.kernels.spatial.pool import MaxPoolSpec, SumPoolSpec, Window
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import load32
from edgeq.compiler.target import Target

Lanes = Callable[[Expr, int, int], None]  # (first element, lanes, valid lanes)


def _never_outside(window: Window, vertical: bool, size: int, out: int) -> bool:
    """Whether every tap of every window lies inside the image along an axis."""
    taps, stride, pad, dilation = window.axis(vertical)
    return pad == 0 and (out - 1) * stride + (taps - 1) * dilation < size


def _tap_range(window: Window, vertical: bool, index: Expr, size: int, inside: bool) -> tuple[Expr, Expr, Expr]:
    """(pixel of tap 0, first tap inside the image, last such tap + 1; both the same where there is none)."""
    taps, stride, pad, dilation = window.axis(vertical)
    start = tir.bind(index * stride - pad)
    if inside:
        return start, tir.const(0), tir.const(taps)
    before = _op.floordiv(tir.const(dilation - 1) - start, tir.const(dilation))
    end = _op.floordiv(tir.const(size - 1) - start, tir.const(dilation)) + 1
    first = tir.bind(tir.tirx.max(before, tir.const(0)))
    return start, first, tir.bind(tir.tirx.max(tir.tirx.min(end, tir.const(taps)), first))


@dataclass(frozen=True)
class _Taps:
    """Pixel of every tap of a window along one axis; `missed` where windows may hold none: this one does."""

    pixels: list[Expr]
    missed: Expr | None = None


def _taps(window: Window, vertical: bool, index: Expr, size: int, inside: bool, misses: bool) -> _Taps:
    """Taps outside move to the nearest one inside: a maximum doesn't mind one that comes twice."""
    taps, _, _, dilation = window.axis(vertical)
    start, first, end = _tap_range(window, vertical, index, size, inside)
    if inside:
        return _Taps([start + k * dilation for k in range(taps)])
    limited = [tir.tirx.min(tir.tirx.max(tir.const(k), first), end - 1) for k in range(taps)]
    pixels = [tir.bind(start + k * dilation) for k in limited]
    if not misses:
        return _Taps(pixels)
    pixels = [tir.bind(tir.tirx.min(tir.tirx.max(p, tir.const(0)), tir.const(size - 1))) for p in pixels]
    return _Taps(pixels, tir.bind(end <= first))


def _column_parts(window: Window, size: int, out: int) -> list[tuple[int, int, bool]]:
    """Output columns as [first, last + 1) with whether all their taps lie inside the image."""
    taps, stride, pad, dilation = window.axis(False)
    first = min(-(-pad // stride), out)
    last = max(first, min((size - 1 - (taps - 1) * dilation + pad) // stride + 1, out))
    return [part for part in ((0, first, False), (first, last, True), (last, out, False)) if part[0] < part[1]]


def _channels(count: int, widest: int, emit: Lanes) -> None:
    """Vectors over `count` consecutive elements."""
    lanes = loops.lanes_for(count, widest)
    full, tail = divmod(count, lanes)
    if full:
        with T.serial(0, full) as v:
            emit(tir.bind(v * lanes), lanes, lanes)
    if tail:
        emit(tir.const(full * lanes), loops.lanes_for(tail, lanes), tail)


def _largest(values: Sequence[Expr]) -> Expr:
    """Maximum of vectors, pairwise."""
    rest = list(values)
    while len(rest) > 1:
        odd = rest[-1:] if len(rest) % 2 else []
        rest = [tir.tirx.max(a, b) for a, b in zip(rest[0:-1:2], rest[1::2], strict=True)] + odd
    return rest[0]


def _maximum(taps: Sequence[Expr], missed: Sequence[Expr | None], lowest: int, dtype: str, lanes: int) -> Expr:
    """Largest of the vectors, or `lowest` where the window holds no pixel."""
    value = tir.bind(_largest(taps))
    empty = tir.broadcast(tir.const(lowest, dtype), lanes)
    for condition in missed:
        if condition is not None:
            value = tir.bind(tir.tirx.Select(tir.broadcast(condition, lanes), empty, value))
    return value


def max_pool(spec: MaxPoolSpec, target: Target) -> Expr:
    """The PrimFunc of a max pool: windows directly, or columns into a scratch row and then rows."""
    x, y, window = spec.x, spec.y, spec.window
    widest = target.vector_bytes // DTYPE_BYTES[spec.dtype]
    lowest, dtype = DTYPE_RANGE[spec.dtype][0], TVM_DTYPE[spec.dtype]
    scratch = [("scratch", spec.dtype, x.w * x.c)] if spec.separable else []
    parameters = [("x", spec.dtype, x.elements), *scratch, ("y", spec.dtype, y.elements)]
    inside = _never_outside(window, True, x.h, y.h)
    misses = window.misses(True, x.h, y.h), window.misses(False, x.w, y.w)
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, buffers), loops.span(t0, t1) as task:
        source, sink = buffers[0], buffers[-1]
        n, oy = tir.bind(loops.divide(task, y.h)), tir.bind(loops.remainder(task, y.h))
        vertical = _taps(window, True, oy, x.h, inside, misses[0])
        rows = [tir.bind(n * x.image_stride + r * x.row_stride) for r in vertical.pixels]
        target_row = tir.bind(n * y.image_stride + oy * y.row_stride)
        if spec.separable:
            _column_maxima(x, source, rows, buffers[1], widest)
            source, rows, pixel = buffers[1], [tir.const(0)], x.c
        else:
            pixel = x.pixel_stride
        for first, last, whole in _column_parts(window, x.w, y.w):
            with loops.span(first, last) as ox:
                horizontal = _taps(window, False, ox, x.w, whole, misses[1])
                columns = [tir.bind(c * pixel) for c in horizontal.pixels]
                place = tir.bind(target_row + ox * y.pixel_stride)
                missed = vertical.missed, horizontal.missed

                def emit(
                    start: Expr, lanes: int, valid: int, columns: list[Expr] = columns, place: Expr = place,
                    missed: Sequence[Expr | None] = missed,
                ) -> None:  # fmt: skip
                    taps = [tir.vload(source, r + c + start, lanes) for r in rows for c in columns]
                    loops.store_valid(sink, place + start, _maximum(taps, missed, lowest, dtype, lanes), lanes, valid)

                _channels(x.c, widest, emit)
    return out[0]


def _column_maxima(x: Image, source: Expr, rows: list[Expr], scratch: Expr, widest: int) -> None:
    """scratch[column · c + channel] = maximum over the rows of a window."""

    def run(first: Expr | int, place: Expr | int, count: int) -> None:
        def emit(start: Expr, lanes: int, valid: int) -> None:
            taps = [tir.vload(source, r + first + start, lanes) for r in rows]
            loops.store_valid(scratch, place + start, tir.bind(_largest(taps)), lanes, valid)

        _channels(count, widest, emit)

    if x.pixel_stride == x.c:
        run(0, 0, x.w * x.c)
    else:
        with T.serial(0, x.w) as column:
            run(tir.bind(column * x.pixel_stride), tir.bind(column * x.c), x.c)


def sum_pool(spec: SumPoolSpec, target: Target) -> Expr:
    """The PrimFunc of a sum pool."""
    isa, x, y, window = isa_of(target), spec.x, spec.y, spec.window
    extra = scale_parameters(spec.epilogue, spec.scales, target)
    parameters = [("x", spec.x_dtype, x.elements), *extra, ("y", spec.epilogue.dtype, y.elements)]
    inside = [_never_outside(window, True, x.h, y.h), _never_outside(window, False, x.w, y.w)]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (source, *weights, sink)):
        writer = ScaledWriter(spec.epilogue, spec.scales, target, weights)
        with loops.span(t0, t1) as task:
            row, chunk = tir.bind(loops.divide(task, spec.chunks)), tir.bind(loops.remainder(task, spec.chunks))
            n, oy = tir.bind(loops.divide(row, y.h)), tir.bind(loops.remainder(row, y.h))
            top = _tap_range(window, True, oy, x.h, inside[0])
            with T.serial(0, y.w) as ox:
                left = _tap_range(window, False, ox, x.w, inside[1])
                ranges = (top[1], top[2], left[1], left[2])
                base = tir.bind(n * x.image_stride + top[0] * x.row_stride + left[0] * x.pixel_stride)
                zeros = tir.bind((top[2] - top[1]) * (left[2] - left[1]) * spec.x_zero_point)
                place = tir.bind(n * y.image_stride + oy * y.row_stride + ox * y.pixel_stride)
                sn, sh, sw, sc = spec.scale_strides
                entry = tir.bind(n * sn + oy * sh + ox * sw)

                def emit(
                    start: Expr, registers: int, valid: int, base: Expr = base, zeros: Expr = zeros,
                    place: Expr = place, entry: Expr = entry, ranges: tuple[Expr, ...] = ranges,
                ) -> None:  # fmt: skip
                    acc = _window_sum(spec, source, base + start, ranges, isa.lanes, registers)
                    offset = tir.bind(tir.broadcast(zeros, isa.lanes))
                    centred = [value - offset for value in acc] if spec.x_zero_point else acc
                    writer.write(centred, writer.position(entry + start * sc), sink, place + start, valid)

                _groups(y.c, spec.chunks, chunk, isa.lanes, emit)
    return out[0]


def _groups(count: int, chunks: int, chunk: Expr, lanes: int, emit: Callable[[Expr, int, int], None]) -> None:
    """Calls emit(first channel, registers, valid) for the groups of two registers that belong to a chunk."""
    width = 2 * lanes
    full, tail = divmod(count, width)
    share = -(-full // chunks)
    if full:
        with loops.span(chunk * share, tir.tirx.min(chunk * share + share, tir.const(full))) as v:
            emit(tir.bind(v * width), 2, width)
    if tail:
        registers = -(-tail // lanes)
        if chunks == 1:
            emit(tir.const(full * width), registers, tail)
        else:
            with T.If(chunk == chunks - 1), T.Then():
                emit(tir.const(full * width), registers, tail)


def _window_sum(
    spec: SumPoolSpec, source: Expr, start: Expr, ranges: tuple[Expr, ...], lanes: int, registers: int
) -> list[Expr]:
    """Sums of the raw values over the taps inside the image."""
    x, window = spec.x, spec.window
    total = tir.alloc(registers * lanes, "int32")
    for r in range(registers):
        tir.vstore(total, r * lanes, tir.broadcast(tir.const(0), lanes), lanes)
    start = tir.bind(start)
    with loops.span(ranges[0], ranges[1]) as ky:
        row = tir.bind(start + ky * (window.dilation_h * x.row_stride))
        with loops.span(ranges[2], ranges[3]) as kx:
            place = tir.bind(row + kx * (window.dilation_w * x.pixel_stride))
            for r, value in enumerate(load32(source, place, 1, lanes, registers)):
                tir.vstore(total, r * lanes, tir.vload(total, r * lanes, lanes) + value, lanes)
    return [tir.vload(total, r * lanes, lanes) for r in range(registers)]
