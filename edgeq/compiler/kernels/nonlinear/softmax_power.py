"""TIR of the exponentials of softmax: from the distance to a row's maximum to e, in u32 lanes. Imports tvm."""

from __future__ import annotations

import numpy as np
from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.tir import Expr
from edgeq.integer.exp2 import FRACTION_BITS, LINEAR, QUADRATIC, SoftmaxConstants, power_of_two
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


def rounding(constants: SoftmaxConstants | ShiftmaxConstants) -> int:
    """What `power` wants added to the distance, because the caller can have it for nothing."""
    return (1 << constants.pre_shift) >> 1 if isinstance(constants, SoftmaxConstants) else 0


def power(constants: SoftmaxConstants | ShiftmaxConstants, isa: Isa, near: Expr, lanes: int) -> Expr:
    """e of either form.

    Args:
        near: u32 lanes, the distance limited to `reach(constants)`, plus `rounding(constants)`.
    """
    if isinstance(constants, SoftmaxConstants):
        return _exp2(constants, isa, near, lanes)
    w = rounded(_left(near, constants.left, lanes), constants.pre_shift, lanes)
    w = tir.bind(w)
    p = w + shifted(w, 1, lanes) - shifted(w, 5, lanes)
    return shift_power(p, constants.octave, constants.sum_bits - 12, lanes)


def reach(constants: SoftmaxConstants | ShiftmaxConstants) -> int:
    """The first distance at which e is 0, and stays it; `limit` where there is none."""
    if not isinstance(constants, SoftmaxConstants) or _exp2_at(constants, constants.limit):
        return constants.limit
    low, high = 0, constants.limit
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _exp2_at(constants, middle) else (low, middle)
    return low


def _scaled(c: SoftmaxConstants, distance: int) -> int:
    """a·multiplier of a distance."""
    return ((distance + rounding(c)) >> c.pre_shift) * c.multiplier


def _exp2_at(c: SoftmaxConstants, distance: int) -> int:
    t = (_scaled(c, distance) + ((1 << c.shift) >> 1)) >> c.shift
    return int(power_of_two(np.array(t), c.sum_bits))


def _left(value: Expr, count: int, lanes: int) -> Expr:
    return _op.shift_left(value, u32(count, lanes)) if count else value


def _exp2(c: SoftmaxConstants, isa: Isa, near: Expr, lanes: int) -> Expr:
    # In one 32-bit number: octaves above, Q15 fraction below, c.shift bits that were rounded away. Fractions are kept
    # at `place`; 2^-f in Q15 must go left to Q(sum_bits + 1), or right if it starts at a higher place: `extra` octaves.
    place, octave, half = isa.fraction_place, FRACTION_BITS + c.shift, (1 << c.shift) >> 1
    left = c.sum_bits + 1 - FRACTION_BITS - place
    extra, left = (0, left) if left >= 0 else (-left, 0)
    t = shifted(near, c.pre_shift, lanes) * u32(c.multiplier, lanes)
    most = _scaled(c, reach(c)) + half
    folded = extra if most + (extra << octave) < 2**32 else 0
    if half or folded:
        t = t + u32(half + (folded << octave), lanes)
    if (most >> octave) + extra > OCTAVES:  # e is 0 long before that
        t = tir.tirx.min(t, u32(((OCTAVES + 1 - extra + folded) << octave) - 1, lanes))
    t = tir.bind(t)
    to_place = _left(t, place - c.shift, lanes) if place >= c.shift else shifted(t, c.shift - place, lanes)
    f = tir.bind(to_place & u32(((1 << FRACTION_BITS) - 1) << place, lanes))
    bend = u32(LINEAR << place, lanes) - isa.product_q15(u32(QUADRATIC << place, lanes), f, rounded=False)
    g = u32(1 << (FRACTION_BITS + place), lanes) - isa.product_q15(f, bend, rounded=True)
    octaves = shifted(t, octave, lanes)
    if extra > folded:
        octaves = octaves + u32(extra, lanes)
    return rounded_octaves(_left(g, left, lanes), octaves, lanes)


def shift_power(p: Expr, octave: int, bits: int, lanes: int) -> Expr:
    """rshift((2·octave − r) << bits, i) with p = i·octave + r, p limited to 31 octaves."""
    p = tir.bind(tir.tirx.min(p, u32(OCTAVES * octave, lanes)))
    i = tir.bind(shifted(p * u32(-(-(2**DIVISION_BITS) // octave), lanes), DIVISION_BITS, lanes))
    line = u32(2 * octave, lanes) - (p - i * u32(octave, lanes))
    return rounded_octaves(_left(line, bits + 1, lanes), i, lanes)
