"""TIR of resize.py: four products a pixel. Imports tvm.

The op's nested mean equals Σ w·x over the four taps with w = wy·wx, Σ w = 2^22: the same integer, for nothing is
rounded before the end. 8-bit values stay inside 32 bits (255 · 2^22 + 2^21), s16 takes 64.
"""

from __future__ import annotations

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.spatial.resize import ResizeLinearSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import finish, load32, store16, units
from edgeq.compiler.target import Target
from edgeq.integer.interpolation import WEIGHT_BITS

ONE = 1 << WEIGHT_BITS


def _taps(table: Expr, index: Expr, count: int) -> tuple[Expr, Expr, Expr]:
    """(first offset, second offset, weight of the second) of an output row or column."""
    first, second, weight = (tir.bind(tir.load(table, index + part * count)) for part in range(3))
    return first, second, weight


def resize_linear(spec: ResizeLinearSpec, target: Target) -> Expr:
    """The PrimFunc of a bilinear resize."""
    isa, x, y = isa_of(target), spec.x, spec.y
    parameters = [
        ("x", spec.dtype, x.elements),
        ("rows", "s32", 3 * y.h),
        ("columns", "s32", 3 * y.w),
        ("y", spec.dtype, y.elements),
    ]
    with (
        tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (source, rows, columns, sink)),
        loops.span(t0, t1) as task,
    ):
        n, oy = tir.bind(loops.divide(task, y.h)), tir.bind(loops.remainder(task, y.h))
        top, bottom, down = _taps(rows, oy, y.h)
        base, line = n * x.image_stride, tir.bind(n * y.image_stride + oy * y.row_stride)
        with T.serial(0, y.w) as ox:
            left, right, across = _taps(columns, ox, y.w)
            places = [tir.bind(base + row + column) for row in (top, bottom) for column in (left, right)]
            weights = [tir.bind(v * h) for v in (ONE - down, down) for h in (ONE - across, across)]
            pixel = tir.bind(line + ox * y.pixel_stride)
            lanes = loops.lanes_for(y.c, 2 * isa.lanes)
            full, tail = divmod(y.c, lanes)
            if full:
                with T.serial(0, full) as v:
                    _pixel(spec, isa, source, (places, weights), sink, pixel, tir.bind(v * lanes), lanes, lanes)
            if tail:
                narrow = loops.lanes_for(tail, lanes)
                _pixel(spec, isa, source, (places, weights), sink, pixel, tir.const(full * lanes), narrow, tail)
    return out[0]


def _pixel(
    spec: ResizeLinearSpec, isa: Isa, source: Expr, taps: tuple[list[Expr], list[Expr]], sink: Expr, pixel: Expr,
    channel: Expr, lanes: int, valid: int,
) -> None:  # fmt: skip
    wide = spec.dtype == "s16"
    kind, half = "int64" if wide else "int32", 1 << (2 * WEIGHT_BITS - 1)
    low, high = DTYPE_RANGE[spec.dtype]
    for start, width, count in units(isa, lanes, valid):
        registers = width // isa.lanes
        totals = [isa.splat(half, kind, isa.lanes)] * registers
        for place, weight in zip(*taps, strict=True):
            values = load32(source, place + channel + start, 1, isa.lanes, registers)
            factor = tir.broadcast(tir.cast(kind, weight), isa.lanes)
            totals = [t + tir.cast(f"{kind}x{isa.lanes}", v) * factor for t, v in zip(totals, values, strict=True)]
        shifted = [isa.shift_right(t, 2 * WEIGHT_BITS) for t in totals]
        acc = [tir.cast(f"int32x{isa.lanes}", s) if wide else s for s in shifted]
        value = finish(isa, acc, 0, low, high, spec.dtype, natural=True)
        store16(isa, sink, pixel + channel + start, value, spec.dtype, count)
