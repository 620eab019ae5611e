"""Arithmetic of the integer dialect in NumPy: rounding shifts, requantize, multipliers from float scales, quantize.

Everything that an integer graph computes rests on two functions, `round_shift` and `clamp`; the forms are those of
docs/integer-ops.md. Needs NumPy only, so that kernel workers can import it without onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CompileError

IntArray = NDArray[Any]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
SINGLE_SHIFT_MIN, SINGLE_SHIFT_MAX = 2, 62
# Shifts of `narrow`, and how far apart the least negative and the largest may be.
NARROW_SHIFT_MIN, NARROW_SHIFT_MAX, NARROW_SHIFT_SPAN, NARROW_POST_MAX = -6, 30, 30, 6
# From here on a post shift of the largest scale would leave less than four fraction bits; below, multipliers fit.
NARROW_COARSE, NARROW_LIMIT = 2.0**-4, (1 - 2.0**-15) * 2.0**-NARROW_SHIFT_MIN


def dtype_range(dtype: np.dtype[Any] | type[Any] | str) -> tuple[int, int]:
    """(lowest, highest) value of an integer dtype."""
    info = np.iinfo(np.dtype(dtype))
    return int(info.min), int(info.max)


def round_shift(value: IntArray | int, shift: IntArray | int) -> IntArray:
    """(value + 2^(shift−1)) >> shift in int64: divide by 2^shift, round half up. A shift of 0 changes nothing.

    Args:
        value: integers; |value| + 2^(shift−1) must fit int64.
        shift: 0 … 62, scalar or broadcastable.
    """
    v = np.asarray(value, dtype=np.int64)
    s = np.asarray(shift, dtype=np.int64)
    half: IntArray = np.left_shift(np.int64(1), s) >> 1
    result: IntArray = (v + half) >> s
    return result


def clamp(value: IntArray, low: int, high: int, dtype: np.dtype[Any] | type[Any]) -> IntArray:
    """Value limited to [low, high], then stored as `dtype` (which must hold low and high)."""
    result: IntArray = np.clip(value, low, high).astype(dtype)
    return result


def requantize_single(
    acc: IntArray,
    multiplier: IntArray | int,
    shift: IntArray | int,
    zero_point: int,
    low: int,
    high: int,
    dtype: np.dtype[Any] | type[Any],
) -> IntArray:
    """clamp(zero_point + ((acc·multiplier + 2^(shift−1)) >> shift)), product in 64 bits (numerics form `single`).

    Args:
        acc: int32.
        multiplier: in [2^30, 2^31), int32, broadcastable to acc.
        shift: in [2, 62], int32, broadcastable to acc.
        zero_point, low, high: of the output, low <= high inside `dtype`.
    """
    product = acc.astype(np.int64) * np.asarray(multiplier, dtype=np.int64)
    return clamp(round_shift(product, shift) + zero_point, low, high, dtype)


def requantize_narrow(
    acc: IntArray,
    multiplier: IntArray | int,
    shift: IntArray | int,
    post_shift: int,
    zero_point: int,
    low: int,
    high: int,
    dtype: np.dtype[Any] | type[Any],
) -> IntArray:
    """The cheap 8-bit form (numerics form `narrow`).

    a = sat16(round_shift(acc, shift)); t = (a·multiplier + 2^14) >> 15; clamp(zero_point + round_shift(t, post_shift)).

    Args:
        acc: int32; acc + 2^(shift−1) must fit int32 (the op's interval proof sees to it).
        multiplier: in [1, 2^15), broadcastable to acc.
        shift: in [-6, 30], broadcastable to acc; negative: acc · 2^−shift, which must fit int32 too.
        post_shift: in [0, 6], one for the whole tensor.
    """
    right = np.maximum(np.asarray(shift, dtype=np.int64), 0)
    left = right - np.asarray(shift, dtype=np.int64)
    a = np.clip(round_shift(np.left_shift(acc.astype(np.int64), left), right), -32768, 32767)
    t = round_shift(a * np.asarray(multiplier, dtype=np.int64), 15)
    return clamp(round_shift(t, post_shift) + zero_point, low, high, dtype)


def narrow_rounding(shift: IntArray | int) -> IntArray:
    """What `narrow` adds in front of its first shift: 2^(shift − 1), 0 where nothing is shifted out."""
    half: IntArray = np.left_shift(np.int64(1), np.maximum(np.asarray(shift, np.int64), 0)) >> 1
    return half


def narrow_left(shift: IntArray | int) -> int:
    """By how much `narrow` moves the accumulators of these shifts to the left at most."""
    return max(0, -int(np.min(np.asarray(shift))))


def _positive(scale: NDArray[np.float64] | float) -> NDArray[np.float64]:
    ratio = np.asarray(scale, dtype=np.float64)
    if not np.all(np.isfinite(ratio)) or np.any(ratio <= 0):
        raise CompileError(
            "a scale can't be turned into a fixed-point multiplier",
            why=f"scales must be finite and above 0, got {ratio.min()} … {ratio.max()}",
            hint="look for a constant or dead tensor in the calibration report",
        )
    return ratio


def single_constants(scale: NDArray[np.float64] | float) -> tuple[IntArray, IntArray]:
    """Fixed-point form of positive scales for `requantize_single`: scale ≈ multiplier · 2^−shift.

    Args:
        scale: real factor(s) from accumulator steps to output steps, below 2^29.

    Returns:
        (multiplier, shift), int32, shaped like scale; multiplier in [2^30, 2^31), shift in [2, 62]. Relative error at
        most 2^−31; scales under 2^−32 become 2^−32, which maps every int32 to 0.

    Raises:
        CompileError: a scale is not finite, not positive or too large.
    """
    ratio = _positive(scale)
    fraction, exponent = np.frexp(ratio)
    multiplier = np.rint(fraction * 2.0**31).astype(np.int64)
    carry = multiplier == 2**31
    multiplier = np.where(carry, 2**30, multiplier)
    shift = 31 - (exponent.astype(np.int64) + carry)
    tiny = shift > SINGLE_SHIFT_MAX
    multiplier, shift = np.where(tiny, 2**30, multiplier), np.where(tiny, SINGLE_SHIFT_MAX, shift)
    if np.any(shift < SINGLE_SHIFT_MIN):
        raise CompileError(
            "a requantize scale is too large",
            why=f"{ratio.max()} is not below 2^29",
            hint="check the scales around the node",
        )
    return multiplier.astype(np.int32), shift.astype(np.int32)


def narrow_constants(scale: NDArray[np.float64] | float) -> tuple[IntArray, IntArray, int]:
    """Fixed-point form of positive scales for `requantize_narrow`: scale ≈ multiplier · 2^−(15 + shift + post_shift).

    Up to six fraction bits are kept behind the first shift. Where the largest scale is 2^−4 or more they would be too
    few with a post shift that all share: then there is none, small scales are shifted until they are 2^−6, and the
    multiplier (2^9 and more) rounds to the output itself. Scales of 1 and more, which few-bit weights bring, shift the
    accumulator to the left.

    Args:
        scale: real factor(s) from accumulator steps to output steps, at most 2^6 · (1 − 2^−15).

    Returns:
        (multiplier int32 in [1, 2^15), shift int32 in [-6, 30], post_shift in [0, 6]), the arrays shaped like scale.

    Raises:
        CompileError: a scale is not finite, not positive, or too large (use the `single` form there).
    """
    ratio = _positive(scale)
    if ratio.max() > NARROW_LIMIT:
        raise CompileError(
            "a requantize scale is too large for the narrow form",
            why=f"{ratio.max()} is not below 2^{-NARROW_SHIFT_MIN}",
            hint="use the single form for this layer",
        )
    fraction, exponent = np.frexp(ratio)
    if ratio.max() >= NARROW_COARSE:
        part, power = np.frexp(ratio / (1 - 2.0**-15))  # up to 2^power · (1 − 2^−15) the multiplier is below 2^15
        left = np.maximum(power - (part == 0.5), 0).astype(np.int64)
        most = NARROW_SHIFT_SPAN - int(left.max())
        shift = np.clip(-NARROW_POST_MAX + 1 - exponent.astype(np.int64), 0, most) - left
        multiplier = np.maximum(np.rint(ratio * 2.0 ** (15 + shift)), 1).astype(np.int64)
        return multiplier.astype(np.int32), shift.astype(np.int32), 0
    multiplier = np.rint(fraction * 2.0**15).astype(np.int64)
    carry = multiplier == 2**15
    multiplier = np.where(carry, 2**14, multiplier)
    total = -(exponent.astype(np.int64) + carry)
    post_shift = int(min(NARROW_POST_MAX, total.min()))
    shift = total - post_shift
    tiny = shift > NARROW_SHIFT_MAX
    multiplier, shift = np.where(tiny, 2**14, multiplier), np.where(tiny, NARROW_SHIFT_MAX, shift)
    return multiplier.astype(np.int32), shift.astype(np.int32), post_shift


@dataclass(frozen=True)
class PairConstants:
    """Two multipliers over one shift, as `Add`, `Max` and `Min` take them: ratio_i ≈ multiplier_i · 2^−shift."""

    a_multiplier: int
    b_multiplier: int
    shift: int


def pair_constants(a_ratio: float, b_ratio: float, a_max: int = 255, b_max: int = 255) -> PairConstants:
    """Multipliers of at most 15 bits for the two sides of an addition, such that everything stays inside 32 bits.

    Args:
        a_ratio, b_ratio: input scale / output scale of each side; b_ratio may be negative (subtraction).
        a_max, b_max: largest |q − zero_point| of each side (255 for 8 bits, 32768 for s16).

    Raises:
        CompileError: a ratio is not finite, both are 0, or one is 2^15 or more.
    """
    largest = max(abs(a_ratio), abs(b_ratio))
    if not np.isfinite(largest) or largest == 0 or largest >= 2**15:
        raise CompileError(
            "the scales of an addition can't be brought to one shift",
            why=f"input/output scale ratios are {a_ratio} and {b_ratio}",
            hint="check the scales around the node",
        )
    for shift in range(30, -1, -1):
        a, b = round(a_ratio * 2.0**shift), round(b_ratio * 2.0**shift)
        bound = a_max * abs(a) + b_max * abs(b) + ((1 << shift) >> 1)
        if max(abs(a), abs(b)) < 2**15 and bound <= INT32_MAX:
            return PairConstants(a, b, shift)
    raise CompileError(
        "the scales of an addition don't fit 32 bits",
        why=f"input/output scale ratios are {a_ratio} and {b_ratio} for inputs up to {a_max} and {b_max}",
        hint="check the scales around the node",
    )


def ratio_constants(ratio: float, bits: int = 15, max_shift: int = 30) -> tuple[int, int]:
    """One positive ratio ≈ multiplier · 2^−shift with a multiplier of at most `bits` bits: for `Rescale` and `Div`.

    Returns:
        (multiplier in [1, 2^bits), shift in [0, max_shift]), as exact as they allow; a ratio too small for them becomes
        the smallest one, 2^−max_shift.

    Raises:
        CompileError: the ratio is not finite, not positive, or 2^bits or more.
    """
    _positive(ratio)
    shift = min(max_shift, bits - int(np.frexp(ratio)[1]))
    if shift >= 0 and round(ratio * 2.0**shift) >= 2**bits:
        shift -= 1
    if shift < 0:
        raise CompileError(
            "a ratio of scales is too large",
            why=f"{ratio} is not below 2^{bits}",
            hint="check the scales around the node",
        )
    return max(1, round(ratio * 2.0**shift)), shift


def quantize(values: NDArray[Any], scale: float, zero_point: int, dtype: np.dtype[Any] | type[Any]) -> IntArray:
    """clip(rint(float32(x) · float32(1/scale)) + zero_point): float values to integers, round half to even.

    Args:
        values: real numbers; not finite ones are an error of the caller.
        scale: real units per step.
        zero_point: the integer that stands for 0.0.
        dtype: of the result.
    """
    low, high = dtype_range(dtype)
    steps = np.rint(np.asarray(values, dtype=np.float32) * np.float32(1.0 / scale)).astype(np.float64)
    return clamp(np.clip(steps + zero_point, low, high), low, high, dtype)


def dequantize(values: IntArray, scale: float, zero_point: int) -> NDArray[np.float32]:
    """float32(scale) · (q − zero_point)."""
    steps = (np.asarray(values).astype(np.int64) - zero_point).astype(np.float32)
    result: NDArray[np.float32] = steps * np.float32(scale)
    return result
