"""TIR of shift_gelu.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.nonlinear.shift_gelu import (
    HEAD,
    NEWTON_SHIFTS,
    SLOPE_BITS,
    ShiftGeluPaperSpec,
    ShiftGeluSpec,
    reciprocal_line,
)
from edgeq.compiler.kernels.nonlinear.softmax_power import rounded, shift_power, shifted, u32
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import finish, load32, store16, units
from edgeq.compiler.target import Target
from edgeq.integer.shift_exp import ONE_BITS
from edgeq.integer.shift_gelu_paper import CEILING, DEPTH, OUT_BITS, SHIFT_MAX


def shift_gelu(spec: ShiftGeluSpec, target: Target) -> Expr:
    """The PrimFunc of ShiftGelu over s16 elements."""
    isa, nest = isa_of(target), spec.nest
    steps = loops.load_steps(nest, nest.vectorisable)
    parameters = [("x", "s16", nest.extent(0)), ("y", spec.dtype, nest.extent(1))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, y)):

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            for start, width, count in units(isa, lanes, valid):
                registers = load32(x, offsets[0] + start * steps[0], steps[0], isa.lanes, width // isa.lanes)
                scaled = [tir.bind(_gelu(spec, isa, value)) for value in registers]
                value = finish(isa, scaled, spec.zero_point, spec.low, spec.high, spec.dtype, natural=True)
                store16(isa, y, offsets[1] + start, value, spec.dtype, count)

        loops.sweep_any(nest, spec.split(), t0, t1, 2 * isa.lanes, emit, nest.vectorisable)
    return out[0]


def _gelu(spec: ShiftGeluSpec, isa: Isa, x: Expr) -> Expr:
    """rshift(rshift(x·g, 15)·multiplier, shift) of one s32 register."""
    c, lanes = spec.constants, isa.lanes
    unsigned, signed = f"uint32x{lanes}", f"int32x{lanes}"
    zero = isa.splat(0, "int32", lanes)
    negative = x < zero
    magnitude = tir.reinterpret(unsigned, tir.tirx.Select(negative, zero - x, x))
    moved = _op.shift_left(magnitude, u32(c.left, lanes)) if c.left else magnitude
    w = tir.bind(rounded(moved, c.pre_shift, lanes))
    e = shift_power(w + w + shifted(w, 1, lanes) + shifted(w, 4, lanes), c.octave, ONE_BITS, lanes)
    one = u32((2 * c.octave) << ONE_BITS, lanes)
    reciprocal = tir.reinterpret(unsigned, _reciprocal(tir.reinterpret(signed, one + e), c.octave, lanes))
    g = tir.reinterpret(signed, rounded(tir.tirx.Select(negative, e, one) * reciprocal, 15, lanes))
    # |x|·g <= 2^30, and the rounding of an arithmetic shift is the same for both signs.
    h = isa.shift_right(x * g + isa.splat(1 << (HEAD - 1), "int32", lanes), HEAD)
    half = isa.splat((1 << c.shift) >> 1, "int32", lanes)
    return isa.shift_right(h * isa.splat(c.multiplier, "int32", lanes) + half, c.shift)


def _reciprocal(d: Expr, octave: int, lanes: int) -> Expr:
    """2^30 // d in s32 lanes for one <= d <= 2·one, as vectors have no integer division.

    A line through 1/d, two steps of Newton, and one correction: `reciprocal_steps` in shift_gelu.py, which a test walks
    through for every octave and every d.
    """

    def splat(value: int) -> Expr:
        return tir.broadcast(tir.const(value), lanes)

    def down(value: Expr, count: int) -> Expr:
        return _op.shift_right(value, splat(count))

    d, (start, slope) = tir.bind(d), reciprocal_line(octave)
    y = tir.bind(splat(start) - down(d * splat(slope), SLOPE_BITS))
    for shift in NEWTON_SHIFTS:
        rest = splat(2**30) - d * y
        y = tir.bind(y + down(down(rest, shift) * y, 30 - shift))
    # Too small by one where d fits once more into what is left: then (left − d) >> 31 is 0, else −1.
    left = splat(2**30) - d * y
    return y + splat(1) + down(left - d, 31)


def shift_gelu_paper(spec: ShiftGeluPaperSpec, target: Target) -> Expr:
    """The PrimFunc of the published form."""
    nest, last = spec.nest, spec.length - 1
    parameters = [
        ("x", spec.x_dtype, nest.extent(0) + last * spec.x_step),
        ("y", spec.dtype, nest.extent(1) + last * spec.y_step),
    ]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, y)):

        def row(offsets: Sequence[Expr], block: Expr) -> None:
            state = tir.alloc(1, "int32")
            tir.store(state, 0, tir.const(-(2**31)))
            with T.serial(0, spec.length) as i:
                tir.store(state, 0, tir.tirx.max(tir.load(state, 0), _centred(spec, x, offsets[0] + i * spec.x_step)))
            largest = tir.bind(tir.load(state, 0))
            first = tir.bind(_published(tir.bind(tir.const(0) - largest), spec.constants.octave))
            with T.serial(0, spec.length) as i:
                value = _centred(spec, x, offsets[0] + i * spec.x_step)
                result = _paper(spec, value, largest, first)
                tir.store(y, offsets[1] + i * spec.y_step, tir.cast(TVM_DTYPE[spec.dtype], result))

        loops.each_row(nest, spec.split(), t0, t1, row)
    return out[0]


def _centred(spec: ShiftGeluPaperSpec, x: Expr, index: Expr) -> Expr:
    return tir.bind(tir.cast("int32", tir.load(x, index)) - spec.x_zero_point)


def _published(z: Expr, octave: int) -> Expr:
    """ShiftExp of one number, s64."""
    raised = z + _op.shift_right(z, tir.const(1)) - _op.shift_right(z, tir.const(4))
    p = tir.bind(tir.tirx.max(raised, tir.const(-DEPTH * octave)))
    k = tir.bind(_op.floordiv(tir.const(0) - p, tir.const(octave)))
    line = tir.cast("int64", tir.const(2 * octave) + p + k * octave)
    shift = tir.cast("int64", tir.tirx.min(tir.const(DEPTH) - k, tir.const(SHIFT_MAX)))
    return _op.shift_right(_op.shift_left(line, shift), tir.const(1, "int64"))


def _paper(spec: ShiftGeluPaperSpec, value: Expr, largest: Expr, first: Expr) -> Expr:
    """One element, clamped, s32; `first` is ShiftExp(−largest)."""
    c, wide = spec.constants, "int64"
    e = tir.bind(_published(tir.bind(value - largest), c.octave))
    total = tir.bind(tir.cast("int32", tir.tirx.min(e + first, tir.const(CEILING, wide))))
    factor = _op.truncdiv(tir.const(CEILING), total)
    g = tir.cast("int32", _op.shift_right(e * tir.cast(wide, factor), tir.const(31 - OUT_BITS, wide)))
    scaled = value * g * c.multiplier + ((1 << c.shift) >> 1)
    moved = _op.shift_right(scaled, tir.const(c.shift)) + spec.zero_point
    return tir.tirx.max(tir.tirx.min(moved, tir.const(spec.high)), tir.const(spec.low))
