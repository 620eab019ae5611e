"""Exponentials by shifts, in the manner of I-ViT (arXiv 2207.01405), with its faults mended: Shiftmax and ShiftGelu.

The form: log2(e) as a sum of powers of two, 2^−f as the line 1 − f/2, whole octaves as shifts. What was mended:

- one octave is `octave` steps of a grid chosen for it, 1024 … 2047, whatever the scale (published: floor(1/scale) input
  steps, for coarse scales 1, 2, 3 …);
- f/2 keeps its half bit: 2·octave − r stands for (1 − r/(2·octave));
- every width is fixed here and proven; sums are not clamped; the result is rounded and normalised exactly as in the
  `exp2` softmax, so that a flat row keeps its mass;
- GELU looks at one element only: σ(−|x|), whose exponential is at most 1.

Shared step, for w >= 0 on the grid:

    p = min(a few shifts of w, 31·octave)               real p/octave = octaves
    i = p // octave;  r = p − i·octave                  exact by (p·ceil(2^27 / octave)) >> 27 in unsigned 32 bits
    e = rshift((2·octave − r) << bits, i)               2^−(p/octave) in units of 1/(2·octave·2^bits)

Shiftmax, over a row with d = min(max(x) − x, limit) (unsigned 32 bits):

    w = rshift(d << left, pre_shift)                    one of the two is 0
    p = w + (w >> 1) − (w >> 5)                         1.46875·w; see below
    e                                                   bits = sum_bits − 12: e < 2^sum_bits; then as in exp2.py

ShiftGelu, x·σ(1.702·x), per element with a = |x − x_zero_point|, all below 2^31:

    w = rshift(a << left, pre_shift)
    p = 2·w + (w >> 1) + (w >> 4)                       2.5625·w; see below
    e, one = 16·octave                                  bits = 3; 2^14 <= one < 2^15, e <= one
    R = 2^30 // (one + e)                               2^14 <= R < 2^16
    g = rshift((x < x_zero_point ? e : one)·R, 15)      σ(1.702·x) in Q15
    h = rshift((x − x_zero_point)·g, head)              |h| <= 32768; head = 8 for 8-bit x, 15 for s16
    y = clamp(zero_point + rshift(h·multiplier, shift))                   |h·multiplier| + 2^(shift−1) < 2^31

The factors are a little above log2(e) = 1.4427 (published: 1.4375) and 1.702·log2(e) = 2.4554 (2.4258): the line lies
up to 6.15 % above 2^−f, and a steeper exponent takes that back. Measured, among a few sums of two or three shifts:
softmax over 197 tokens .0049 / .0144 at σ = 1 / 3 (1.4375: .0070 / .0161), GELU 1.14 steps at ±2 (2.4258: 1.97).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CompileError
from edgeq.integer.arithmetic import ratio_constants, round_shift
from edgeq.integer.exp2 import distance, normalise

OCTAVE_MIN, OCTAVE_MAX = 2**10, 2**11 - 1
OCTAVES = 31
"""Past this many octaves an exponential is 0."""
SUM_BITS_MIN, SUM_BITS_MAX = 16, 24
MAX_LENGTH = 2 ** (30 - SUM_BITS_MIN)
LEFT_MAX, PRE_SHIFT_MAX = 15, 20
STEEPEST, STEEPEST_GELU = 20.0, 13.0
"""Scales above it count as it: one step is already past the last octave that matters."""
ONE_BITS = 3
HEADS = {np.dtype(np.int8): 8, np.dtype(np.uint8): 8, np.dtype(np.int16): 15}
"""dtype of ShiftGelu's x -> bits dropped from (x − zero point)·g, so that 16 remain."""

IntArray = NDArray[Any]


@dataclass(frozen=True)
class ShiftmaxConstants:
    """Attributes of `Shiftmax` that depend on the input's scale, the row length and the output."""

    limit: int
    left: int
    pre_shift: int
    octave: int
    sum_bits: int
    out_bits: int

    def attributes(self) -> dict[str, int]:
        """As keyword arguments for `builder.emit(…, "Shiftmax", …)`."""
        return asdict(self)


@dataclass(frozen=True)
class ShiftGeluConstants:
    """Attributes of `ShiftGelu` that depend on the scales."""

    left: int
    pre_shift: int
    octave: int
    head: int
    multiplier: int
    shift: int

    def attributes(self) -> dict[str, int]:
        """As keyword arguments for `builder.emit(…, "ShiftGelu", …)`."""
        return asdict(self)


def grid(scale: float, steepest: float = STEEPEST) -> tuple[int, int, int]:
    """(left, pre_shift, octave): w = d·2^(left − pre_shift), octave = 1/scale on that grid; scale at most `steepest`.

    Raises:
        CompileError: the scale is not finite, not positive, or below 2^−30.
    """
    if not (math.isfinite(scale) and scale >= 2.0**-30):
        raise CompileError(
            "a shift-based exponential has no usable input scale",
            why=f"scale is {scale}",
            hint="recalibrate the tensor",
        )
    scale = min(scale, steepest)
    exponent = math.ceil(math.log2(OCTAVE_MIN * scale))
    octave = round(2.0**exponent / scale)
    if octave > OCTAVE_MAX:
        exponent, octave = exponent - 1, round(2.0 ** (exponent - 1) / scale)
    return max(exponent, 0), max(-exponent, 0), octave


def shiftmax_constants(scale: float, length: int, out_bits: int) -> ShiftmaxConstants:
    """Constants for inputs of real step `scale` in rows of `length` elements.

    Args:
        scale: real units per input step, 2^−30 or more.
        length: elements a row, at most 16384.
        out_bits: fraction bits of the output: 8 (scale 1/256) or 15 (scale 2^−15).

    Raises:
        CompileError: the scale or the row length is out of range.
    """
    if not 1 <= length <= MAX_LENGTH:
        raise CompileError(
            "shiftmax over too many elements for 32-bit sums", why=f"the axis has {length}, at most {MAX_LENGTH} fit"
        )
    left, pre_shift, octave = grid(scale)
    sum_bits = min(SUM_BITS_MAX, 30 - (length - 1).bit_length())
    # The first w whose e is 0: sum_bits + 1 octaves down; floors in the shifts cost at most one.
    steps = math.ceil(((sum_bits + 1) * octave + 1) * 32 / 47)
    return ShiftmaxConstants(-(-(steps << pre_shift) >> left), left, pre_shift, octave, sum_bits, out_bits)


def shift_gelu_constants(scale: float, out_scale: float, dtype: np.dtype[Any] | type[Any]) -> ShiftGeluConstants:
    """Constants for x of real step `scale` and dtype s8, u8 or s16, and an output step `out_scale`.

    Raises:
        CompileError: a scale is out of range.
    """
    left, pre_shift, octave = grid(scale, STEEPEST_GELU)
    head = HEADS[np.dtype(dtype)]
    multiplier, shift = ratio_constants(scale / out_scale * 2.0 ** (head - 15), bits=15)
    return ShiftGeluConstants(left, pre_shift, octave, head, multiplier, shift)


def shifted_power(p: IntArray, octave: int, bits: int) -> IntArray:
    """e of the module's description, int64; p >= 0."""
    p = np.minimum(p, OCTAVES * octave)
    i = p // octave
    return round_shift((2 * octave - (p - i * octave)) << bits, i)


def shiftmax_powers(x: IntArray, constants: ShiftmaxConstants, mask: IntArray | None = None) -> IntArray:
    """e of every element over the last axis, below 2^sum_bits; 0 where the mask is 0."""
    c = constants
    w = round_shift(np.minimum(distance(x, mask), c.limit) << c.left, c.pre_shift)
    e = shifted_power(w + (w >> 1) - (w >> 5), c.octave, c.sum_bits - 12)
    return e if mask is None else np.where(mask != 0, e, 0)


def shiftmax_rows(x: IntArray, constants: ShiftmaxConstants, mask: IntArray | None = None) -> IntArray:
    """Probabilities in Q(out_bits) over the last axis, before zero point and clamp; see `exp2.softmax_rows`."""
    return normalise(shiftmax_powers(x, constants, mask), constants.sum_bits, constants.out_bits)


def shift_gelu(x: IntArray, constants: ShiftGeluConstants) -> IntArray:
    """GELU in steps of the output, before zero point and clamp.

    Args:
        x: integers, zero point taken off, |x| <= 255 (head 8) or 32768 (head 15).

    Returns:
        int64.
    """
    c, x = constants, x.astype(np.int64)
    w = round_shift(np.abs(x) << c.left, c.pre_shift)
    one = (2 * c.octave) << ONE_BITS
    e = shifted_power(2 * w + (w >> 1) + (w >> 4), c.octave, ONE_BITS)
    g = round_shift(np.where(x < 0, e, one) * (2**30 // (one + e)), 15)
    return round_shift(round_shift(x * g, c.head) * c.multiplier, c.shift)
