"""TIR of binary.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.elementwise.binary import BinarySpec, RescaleSpec
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.tir import Expr
from edgeq.compiler.kernels.vectors import clamp16, finish, folded, load16, store16, units
from edgeq.compiler.target import Target


def binary(spec: BinarySpec, target: Target) -> Expr:
    """The PrimFunc of Add, Max or Min."""
    isa, nest = isa_of(target), spec.nest
    steps = loops.load_steps(nest, nest.vectorisable)
    dtypes = (spec.a_dtype, spec.b_dtype, spec.dtype)
    parameters = [(name, d, nest.extent(k)) for k, (name, d) in enumerate(zip("aby", dtypes, strict=True))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (a, b, y)):

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            for start, width, count in units(isa, lanes, valid):
                left = load16(a, offsets[0] + start * steps[0], spec.a_dtype, steps[0], width)
                right = load16(b, offsets[1] + start * steps[1], spec.b_dtype, steps[1], width)
                store16(isa, y, offsets[2] + start, _combine(isa, spec, left, right, width), spec.dtype, count)

        loops.sweep_any(nest, spec.split(), t0, t1, 2 * isa.lanes, emit, nest.vectorisable)
    return out[0]


def _combine(isa: Isa, spec: BinarySpec, a: Expr, b: Expr, width: int) -> Expr:
    half = (1 << spec.shift) >> 1
    if spec.op == "add":
        constant = half - spec.a_zero_point * spec.a_multiplier - spec.b_zero_point * spec.b_multiplier
        constant, zero_point = folded(constant, spec.zero_point, spec.shift, spec.bound)
        sums = isa.pair_sum(a, b, spec.a_multiplier, spec.b_multiplier)
        registers = [isa.shift_right(s + isa.splat(constant, "int32", isa.lanes), spec.shift) for s in sums]
        return finish(isa, registers, zero_point, spec.low, spec.high, spec.dtype)
    choose = isa.smax if spec.op == "max" else isa.smin
    nothing = isa.splat(0, "int16", width)
    sides = []
    for value, zero, multiplier in (
        (a, spec.a_zero_point, spec.a_multiplier),
        (b, spec.b_zero_point, spec.b_multiplier),
    ):
        constant, _ = folded(half - zero * multiplier, 0, spec.shift, 0)
        sums = isa.pair_sum(value, nothing, multiplier, 0)
        sides.append([isa.shift_right(s + isa.splat(constant, "int32", isa.lanes), spec.shift) for s in sums])
    registers = [choose(left, right) for left, right in zip(*sides, strict=True)]
    return finish(isa, registers, spec.zero_point, spec.low, spec.high, spec.dtype)


def rescale(spec: RescaleSpec, target: Target) -> Expr:
    """The PrimFunc of Rescale."""
    isa, nest = isa_of(target), spec.nest
    steps = loops.load_steps(nest, nest.vectorisable)
    parameters = [("x", spec.x_dtype, nest.extent(0)), ("y", spec.dtype, nest.extent(1))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, y)):

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            for start, width, count in units(isa, lanes, valid):
                value = load16(x, offsets[0] + start * steps[0], spec.x_dtype, steps[0], width)
                value = (_rescale64 if spec.wide else _rescale32)(isa, spec, value, width)
                store16(isa, y, offsets[1] + start, value, spec.dtype, count)

        loops.sweep_any(nest, spec.split(), t0, t1, 2 * isa.lanes, emit, nest.vectorisable)
    return out[0]


def _rescale32(isa: Isa, spec: RescaleSpec, value: Expr, width: int) -> Expr:
    constant = ((1 << spec.shift) >> 1) - spec.x_zero_point * spec.multiplier
    constant, zero_point = folded(constant, spec.zero_point, spec.shift, spec.bound)
    sums = isa.pair_sum(value, isa.splat(0, "int16", width), spec.multiplier, 0)
    registers = [isa.shift_right(s + isa.splat(constant, "int32", isa.lanes), spec.shift) for s in sums]
    return finish(isa, registers, zero_point, spec.low, spec.high, spec.dtype)


def _rescale64(isa: Isa, spec: RescaleSpec, value: Expr, width: int) -> Expr:
    wide = f"int64x{width}"
    constant = ((1 << spec.shift) >> 1) - spec.x_zero_point * spec.multiplier
    product = tir.cast(wide, value) * isa.splat(spec.multiplier, "int64", width) + isa.splat(constant, "int64", width)
    rounded = isa.shift_right(product, spec.shift) + isa.splat(spec.zero_point, "int64", width)
    limited = isa.smin(isa.smax(rounded, isa.splat(spec.low, "int64", width)), isa.splat(spec.high, "int64", width))
    return clamp16(isa, tir.cast(f"int16x{width}", limited), spec.low, spec.high, spec.dtype)
