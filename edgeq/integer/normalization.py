"""LayerNorm and RMSNorm in integers: constants from float parameters, and the row arithmetic step by step.

A row x[0 … n) of integers of real step σ becomes γ·(x − mean)/√(variance + ε) + β in steps of the output. Nothing is
rounded before the variance is known exactly; then once per row:

    S = Σ x                                    s32: n <= 32768
    V = n·Σ x² − S² + epsilon                  u64, exact: n²·variance, epsilon = ε·n²/σ²; V <= 1.5·2^61
    V = max(V, n − 1, 1)                       the least V that a row of unequal integers can have: changes no such row
    c = floor(log4 V)                          0 … 30
    W = V·4^(15 − c)   (c > 15: V >> 2·(c − 15))            2^30 <= W < 2^32
    w = floor(√W)                              2^15 <= w < 2^16, exact to the last bit
    q = 2^31 // w                              2^15 < q <= 2^16
    r = rshift(q·n, 16 + c − row_bits)         1/deviation in Q(row_bits) (a left shift where the count is negative)
    M = (S·r + n // 2) // n                    mean/deviation in Q(row_bits); product and quotient 64 bits, once a row

and per element

    p = x·r − M                                Q(row_bits), |p| + rounding < 2^31: a kernel may compute it modulo 2^32
    t = rshift(p, row_bits − fraction_bits)    |t| <= 32767: s16
    y = clamp(zero_point + rshift(t·gamma[c] + beta[c], shift))             16×16 -> 32 bits, proven

RMSNorm: x − x_zero_point in place of x, S and M are 0, V = max(n·Σ x² + epsilon, n).

Why p fits: with D = n·x − S (so x − mean = D/n) every row has D² <= (n − 1)·(n·Σx² − S²), that is
|x − mean| <= √(n − 1)·deviation; for RMSNorm |x| <= √n·rms. w is at most one too small, so r is at most a factor
1 + 2^−15 and a rounding of 1/2 too large, and |D/n| <= 2^16. `row_bound` adds that up. A quiet row is normalised as
exactly as a loud one (W always has 31 or 32 bits); a constant row gives beta. The zero point of x cancels in LayerNorm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import CompileError
from edgeq.integer.arithmetic import INT32_MAX, round_shift

MAX_LENGTH = 2**15
MAX_EPSILON = 2**61
ROW_BITS_MAX = 29
FACTOR_MAX = 2**15 - 1
"""Largest |t| and |gamma|: both factors of the last product are s16."""

IntArray = NDArray[Any]


@dataclass(frozen=True)
class NormConstants:
    """What `LayerNorm` and `RmsNorm` take besides x.

    gamma: int32 [n], inside ±32767. beta: int32 [n] (zeros for RmsNorm, which has no such input).
    """

    gamma: IntArray
    beta: IntArray
    epsilon: int
    row_bits: int
    fraction_bits: int
    shift: int

    def attributes(self) -> dict[str, int]:
        """As keyword arguments for `builder.emit(…, "LayerNorm" or "RmsNorm", …)`."""
        return {
            "epsilon": self.epsilon,
            "row_bits": self.row_bits,
            "fraction_bits": self.fraction_bits,
            "shift": self.shift,
        }


def row_bound(length: int, row_bits: int) -> int:
    """Largest |p| of any row of that length, in Q(row_bits)."""
    whole = (math.isqrt(length) + 1) << row_bits
    return whole + (whole >> 15) + 2**15 + 2


def factor_bound(length: int, row_bits: int, fraction_bits: int) -> int:
    """Largest |t|."""
    drop = row_bits - fraction_bits
    return (row_bound(length, row_bits) + ((1 << drop) >> 1)) >> drop


def widths(length: int) -> tuple[int, int]:
    """(row_bits, fraction_bits): as many fraction bits as p in 32 bits and t in 16 leave room for.

    Args:
        length: elements a row, 1 … 32768.
    """
    row_bits = next(k for k in range(ROW_BITS_MAX, 0, -1) if row_bound(length, k) + (1 << (k - 1)) <= INT32_MAX)
    fraction_bits = next(b for b in range(15, 0, -1) if factor_bound(length, row_bits, b) <= FACTOR_MAX)
    return row_bits, fraction_bits


def norm_constants(
    gamma: NDArray[Any], beta: NDArray[Any] | None, epsilon: float, scale: float, out_scale: float
) -> NormConstants:
    """Constants of a LayerNorm (or, with beta None, an RMSNorm) over the last axis.

    Args:
        gamma: float [n], one factor per channel.
        beta: float [n], one summand per channel, or None.
        epsilon: added to the variance (real units), >= 0.
        scale: real units per step of x.
        out_scale: real units per step of the output.

    Raises:
        CompileError: a parameter is not finite, a scale not positive, epsilon negative, the row too long, gamma or beta
            too large against the output's scale.
    """
    factors = np.asarray(gamma, dtype=np.float64)
    summands = np.zeros_like(factors) if beta is None else np.asarray(beta, dtype=np.float64)
    length = len(factors)
    if not 1 <= length <= MAX_LENGTH:
        raise CompileError("a row is too long to be normalised", why=f"it has {length} elements, at most {MAX_LENGTH}")
    if not (np.all(np.isfinite(factors)) and np.all(np.isfinite(summands))):
        raise CompileError("a normalisation has parameters that are not finite", hint="check the trained model")
    if not (math.isfinite(scale) and scale > 0 and math.isfinite(out_scale) and out_scale > 0):
        raise CompileError("a normalisation has no usable scales", why=f"they are {scale} and {out_scale}")
    steps, quiet = _epsilon_steps(epsilon, length, scale)
    factors = factors * quiet
    row_bits, fraction_bits = widths(length)
    most = factor_bound(length, row_bits, fraction_bits)
    for shift in range(30, -1, -1):
        g = np.rint(factors / out_scale * 2.0 ** (shift - fraction_bits))
        b = np.rint(summands / out_scale * 2.0**shift)
        if np.max(np.abs(g)) <= FACTOR_MAX and np.max(np.abs(g) * most + np.abs(b)) + 2**shift / 2 <= INT32_MAX:
            return NormConstants(
                g.astype(np.int32),
                b.astype(np.int32),
                steps,
                row_bits,
                fraction_bits,
                shift,
            )
    raise CompileError(
        "gamma and beta of a normalisation are too large for the output's scale",
        why=f"up to {np.max(np.abs(factors))} and {np.max(np.abs(summands))} in steps of {out_scale}",
        hint="recalibrate the tensor",
    )


def _epsilon_steps(epsilon: float, length: int, scale: float) -> tuple[int, float]:
    """(epsilon of the op, what γ is multiplied with).

    An input so quiet that ε in its steps leaves 2^61 (a dead tensor): the deviation is √ε whatever x is, so the limit
    stands in for it and γ makes up for the difference; x̂ is then off by at most n³·2^−46.
    """
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise CompileError("a normalisation's epsilon must be a number >= 0", why=f"it is {epsilon}")
    deviation = math.sqrt(epsilon) * length / scale
    if deviation <= math.sqrt(MAX_EPSILON):
        return min(round(deviation * deviation), MAX_EPSILON), 1.0
    return MAX_EPSILON, math.sqrt(MAX_EPSILON) / deviation


def inverse_deviation(variance: IntArray, length: int, row_bits: int) -> IntArray:
    """r of the module's description.

    Args:
        variance: V, int64, 1 <= V < 2^62.
        length: n. row_bits: as in the op.

    Returns:
        int64, about 2^row_bits·n/√V.
    """
    v = np.asarray(variance, dtype=np.int64)
    c = np.sum(v[..., None] >= 4 ** np.arange(1, 31, dtype=np.int64), axis=-1)
    normal = (v << (2 * np.maximum(15 - c, 0))) >> (2 * np.maximum(c - 15, 0))
    # W < 2^32, so float64 holds it exactly and the correctly rounded root never reaches the next integer.
    q = 2**31 // np.floor(np.sqrt(normal.astype(np.float64))).astype(np.int64)
    count = 16 + c - row_bits
    return round_shift((q * length) << np.maximum(-count, 0), np.maximum(count, 0))


def centred_rows(x: IntArray, epsilon: int, row_bits: int) -> IntArray:
    """p of LayerNorm: (x − mean)/deviation over the last axis, Q(row_bits), int64."""
    wide, n = x.astype(np.int64), x.shape[-1]
    total = wide.sum(axis=-1, keepdims=True)
    variance = n * np.square(wide).sum(axis=-1, keepdims=True) - total * total + epsilon
    r = inverse_deviation(np.maximum(variance, max(n - 1, 1)), n, row_bits)
    result: IntArray = wide * r - (total * r + n // 2) // n
    return result


def scaled_rows(x: IntArray, x_zero_point: int, epsilon: int, row_bits: int) -> IntArray:
    """p of RMSNorm: (x − x_zero_point)/rms over the last axis, Q(row_bits), int64."""
    wide, n = x.astype(np.int64) - x_zero_point, x.shape[-1]
    square = n * np.square(wide).sum(axis=-1, keepdims=True) + epsilon
    result: IntArray = wide * inverse_deviation(np.maximum(square, n), n, row_bits)
    return result


def apply_channels(p: IntArray, gamma: IntArray, beta: IntArray | int, drop: int, shift: int) -> IntArray:
    """From p to steps of the output before zero point and clamp: rshift(rshift(p, drop)·gamma + beta, shift), int64."""
    return round_shift(round_shift(p, drop) * gamma.astype(np.int64) + np.asarray(beta, dtype=np.int64), shift)
