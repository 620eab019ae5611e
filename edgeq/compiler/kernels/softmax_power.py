"""TIR of the exponentials of softmax: from the distance to a row's maximum to e, in u32 lanes. Imports tvm."""

from __future__ import annotations

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.tir import Expr
from edgeq.integer.exp2 import FRACTION_BITS, LINEAR, QUADRATIC, T_MAX, SoftmaxConstants
from edgeq.integer.shift_exp import OCTAVES, ShiftmaxConstants

DIVISION_BITS = 27  # p // octave = (p · ceil(2^27 / octave)) >> 27, exact for p <= 31·octave < 2^16


def u32(value: int, lanes: int) -> Expr:
    """A constant in every lane."""
    return tir.broadcast(tir.const(value, "uint32"), lanes)


def shifted(value: Expr, count: int, lanes: int) -> Expr:
    """value >> count, floor."""
    return _op.shift_right(value, u32(count, lanes)) if count else value


def rounded(value: Expr, shift: int, lanes: int) -> Expr:
    """rshift of unsigned lanes."""
    return shifted(value + u32(1 << (shift - 1), lanes), shift, lanes) if shift else value


def rounded_octaves(value: Expr, octaves: Expr, lanes: int) -> Expr:
    """rshift(value / 2, octaves) of a doubled value: the same for every number of octaves, 0 included."""
    return tir.bind(rounded(_op.shift_right(value, octaves), 1, lanes))


def power(constants: SoftmaxConstants | ShiftmaxConstants, isa: Isa, distance: Expr, lanes: int) -> Expr:
    """e of either form."""
    near = tir.tirx.min(distance, u32(constants.limit, lanes))
    if isinstance(constants, SoftmaxConstants):
        return _exp2(constants, isa, near, lanes)
    w = rounded(_left(near, constants.left, lanes), constants.pre_shift, lanes)
    w = tir.bind(w)
    p = w + shifted(w, 1, lanes) - shifted(w, 5, lanes)
    return shift_power(p, constants.octave, constants.sum_bits - 12, lanes)


def _left(value: Expr, count: int, lanes: int) -> Expr:
    return _op.shift_left(value, u32(count, lanes)) if count else value


def _exp2(c: SoftmaxConstants, isa: Isa, near: Expr, lanes: int) -> Expr:
    a = rounded(near, c.pre_shift, lanes)
    t = rounded(a * u32(c.multiplier, lanes), c.shift, lanes)
    widest = (c.limit + ((1 << c.pre_shift) >> 1)) >> c.pre_shift
    if (widest * c.multiplier + ((1 << c.shift) >> 1)) >> c.shift > T_MAX:
        t = tir.tirx.min(t, u32(T_MAX, lanes))
    t = tir.bind(t)
    f = tir.bind(t & u32((1 << FRACTION_BITS) - 1, lanes))
    bend = u32(LINEAR, lanes) - isa.product_q15(u32(QUADRATIC, lanes), f, rounded=False)
    g = u32(1 << FRACTION_BITS, lanes) - isa.product_q15(f, bend, rounded=True)
    doubled = _left(g, c.sum_bits - FRACTION_BITS + 1, lanes)
    return rounded_octaves(doubled, shifted(t, FRACTION_BITS, lanes), lanes)


def shift_power(p: Expr, octave: int, bits: int, lanes: int) -> Expr:
    """rshift((2·octave − r) << bits, i) with p = i·octave + r, p limited to 31 octaves."""
    p = tir.bind(tir.tirx.min(p, u32(OCTAVES * octave, lanes)))
    i = tir.bind(shifted(p * u32(-(-(2**DIVISION_BITS) // octave), lanes), DIVISION_BITS, lanes))
    line = u32(2 * octave, lanes) - (p - i * u32(octave, lanes))
    return rounded_octaves(_left(line, bits + 1, lanes), i, lanes)
