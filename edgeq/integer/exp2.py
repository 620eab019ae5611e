"""Softmax by powers of two, in unsigned 32-bit integers: constants from a scale, and the row arithmetic step by step.

Source: the `exp2` form of the design's numerics page. A row x[0 … n) of integers with real scale σ becomes

    d  = min(max(x) − x, limit)                          u32; exact for every s8, s16, s32 pair
    a  = (d + (2^pre_shift >> 1)) >> pre_shift           a < 2^16
    t  = (a·multiplier + (2^shift >> 1)) >> shift        Q15: real t = σ·log2(e)·(max − x); < 2^31 before the shift
    t  = min(t, 31·2^15)                                 e is 0 long before that
    i, f = t >> 15, t & 32767                            i <= 31
    g  = 32768 − ((f·(21951 − ((5567·f) >> 15)) + 2^14) >> 15)            2^−f in Q15, 16384 <= g <= 32768
    e  = ((g << (sum_bits − 15)) + (2^i >> 1)) >> i                       2^−t in Q(sum_bits)
    S  = Σ e                                             2^sum_bits <= S <= n·2^sum_bits <= 2^30
    v  = (e + (2^(sum_bits−15) >> 1)) >> (sum_bits − 15)                the same in Q15, v <= 32768, what a kernel keeps

then once per row, with z = bit_length(S) − 16 (>= 0) the shift that normalises S:

    m  = (S + (2^z >> 1)) >> z                           2^15 <= m <= 2^16
    r  = 2^30 // m                                       2^14 <= r <= 2^15: the reciprocal, one division a row
    s  = 45 + z − sum_bits − out_bits                    r >>= max(0, s − 31);  s = min(s, 31)
    y  = clamp(zero_point + ((v·r + (2^s >> 1)) >> s))   v·r <= 2^30; the sum is an unsigned 32-bit number

With a mask, elements that don't take part have e = 0 and no say in the maximum; a row without any other has S = 0,
which counts as 2^15, and every y is clamp(zero_point).

The quadratic is off by at most 0.27 % of its value; it has no step at f = 0 or 1. Nothing passes 32 bits (unsigned).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CompileError

QUADRATIC = 5567
"""Coefficient of 2^−f ≈ 1 − f·(1/2 + c·(1 − f)), c·2^15: least largest relative error."""
LINEAR = QUADRATIC + 16384
FRACTION_BITS = 15
SUM_BITS_MAX = 24
T_MAX = 31 << FRACTION_BITS
MAX_LENGTH = 2 ** (30 - FRACTION_BITS)


@dataclass(frozen=True)
class SoftmaxConstants:
    """Attributes of `Softmax` that depend on the input's scale, the row length and the output."""

    limit: int
    pre_shift: int
    multiplier: int
    shift: int
    sum_bits: int
    out_bits: int

    def attributes(self) -> dict[str, int]:
        """As keyword arguments for `builder.emit(…, "Softmax", …)`."""
        return asdict(self)


def softmax_constants(scale: float, length: int, out_bits: int) -> SoftmaxConstants:
    """Constants for inputs of real step `scale` in rows of `length` elements.

    Args:
        scale: real units per input step, finite and positive.
        length: elements a row (size of the softmax axis), at most 32768.
        out_bits: fraction bits of the output: 8 (scale 1/256) or 15 (scale 2^−15).

    Raises:
        CompileError: the scale or the row length is out of range.
    """
    if not math.isfinite(scale) or scale <= 0:
        raise CompileError("softmax has no usable input scale", why=f"scale is {scale}", hint="recalibrate the tensor")
    if not 1 <= length <= MAX_LENGTH:
        raise CompileError(
            "softmax over too many elements for 32-bit sums", why=f"the axis has {length}, at most {MAX_LENGTH} fit"
        )
    sum_bits = min(SUM_BITS_MAX, 30 - (length - 1).bit_length())
    reach = sum_bits + 2  # octaves below the maximum at which e has become 0
    rate = min(scale * math.log2(math.e), float(reach))  # octaves per input step
    limit = math.ceil(reach / rate)
    if limit > 2**31 - 1:
        raise CompileError("softmax has no usable input scale", why=f"scale {scale} is too small for 32-bit inputs")
    pre_shift = max(0, limit.bit_length() - 16)
    if (limit + ((1 << pre_shift) >> 1)) >> pre_shift > 65535:
        pre_shift += 1
    per_unit = rate * 2.0 ** (pre_shift + FRACTION_BITS)  # Q15 octaves per unit of a
    shift = max(0, min(30, 14 - math.frexp(per_unit)[1]))
    widest = (limit + ((1 << pre_shift) >> 1)) >> pre_shift
    while shift and round(per_unit * 2.0**shift) * widest + (1 << shift >> 1) >= 2**31:
        shift -= 1
    return SoftmaxConstants(limit, pre_shift, round(per_unit * 2.0**shift), shift, sum_bits, out_bits)


def power_of_two(t: NDArray[Any], sum_bits: int) -> NDArray[np.int64]:
    """2^−t in Q(sum_bits) for t in Q15 (limited to 31 octaves), rounded half up."""
    t = np.minimum(np.asarray(t, dtype=np.int64), T_MAX)
    whole, fraction = t >> FRACTION_BITS, t & 32767
    g = 32768 - ((fraction * (LINEAR - ((QUADRATIC * fraction) >> 15)) + 2**14) >> 15)
    result: NDArray[np.int64] = ((g << (sum_bits - FRACTION_BITS)) + ((np.int64(1) << whole) >> 1)) >> whole
    return result


def powers(x: NDArray[Any], constants: SoftmaxConstants, mask: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """e of every element: 2^−t over the last axis, Q(sum_bits), at most 2^sum_bits.

    Args:
        x: integers [..., n].
        constants: from `softmax_constants`.
        mask: broadcastable to x, 0 where an element doesn't take part: it has e = 0 and no say in the maximum.
    """
    c = constants
    d = np.minimum(distance(x, mask), c.limit)
    a = (d + ((1 << c.pre_shift) >> 1)) >> c.pre_shift
    e = power_of_two((a * c.multiplier + ((1 << c.shift) >> 1)) >> c.shift, c.sum_bits)
    return e if mask is None else np.where(mask != 0, e, 0)


def distance(x: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[np.int64]:
    """max(x) − x over the last axis, the maximum taken where the mask isn't 0; meaningless where it is."""
    wide = x.astype(np.int64)
    seen = wide if mask is None else np.where(mask != 0, wide, np.iinfo(x.dtype).min)
    result: NDArray[np.int64] = np.maximum(seen.max(axis=-1, keepdims=True) - wide, 0)
    return result


def normalise(e: NDArray[np.int64], sum_bits: int, out_bits: int) -> NDArray[np.int64]:
    """e divided by its sum over the last axis, Q(out_bits), int64, in [0, 2^out_bits]; a row of zeros stays zero.

    Args:
        e: int64 [..., n], at most 2^sum_bits each, n·2^sum_bits <= 2^30; the sum of a row is 0 or at least 2^15.
    """
    total = np.maximum(e.sum(axis=-1, keepdims=True), 2**15)
    spare = sum_bits - FRACTION_BITS
    v = (e + ((1 << spare) >> 1)) >> spare
    z = np.frexp(total.astype(np.float64))[1].astype(np.int64) - 16
    m = (total + ((np.int64(1) << z) >> 1)) >> z
    s = 45 + z - sum_bits - out_bits
    r = (2**30 // m) >> np.maximum(0, s - 31)
    s = np.minimum(s, 31)
    result: NDArray[np.int64] = (v * r + ((np.int64(1) << s) >> 1)) >> s
    return result


def softmax_rows(x: NDArray[Any], constants: SoftmaxConstants, mask: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """Probabilities in Q(out_bits) over the last axis, before zero point and clamp.

    Args:
        x: integers [..., n].
        constants: from `softmax_constants`.
        mask: broadcastable to x, 0 where an element doesn't take part; None: all do.

    Returns:
        int64 [..., n], each in [0, 2^out_bits] (the sum of a row is near 2^out_bits, not exactly); 0 where masked.
    """
    return normalise(powers(x, constants, mask), constants.sum_bits, constants.out_bits)
