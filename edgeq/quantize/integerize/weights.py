"""Weights: symmetric integers per output channel, with the bias in the accumulator's scale, and a proof of width.

    scale[c] = max |w[c]| / qmax           qmax = 2^(bits−1) − 1: −128 is never used
    bias[c] = round(b[c] / (x_scale · scale[c]))

From 7 bits up the scale covers the largest weight; below, it is the one with the least squared error. A channel whose
accumulator could leave 32 bits, or whose bias could, gets a coarser scale: exactness of the sum comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.quantize.topology import StoredIntegers

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Largest accumulator magnitude allowed: 2^31 − 1 for the accumulator itself.
ACCUMULATOR_LIMIT = 2**31 - 1
#: Bias alone may take half of that.
BIAS_LIMIT = 2**30
#: Shares of the largest weight tried as clipping point below 7 bits.
CLIPPING = np.linspace(0.3, 1.0, 36)
#: Rows of a table that are fitted together: they and their errors fit a second cache.
_ROWS_AT_A_TIME = 512


@dataclass(frozen=True)
class QuantizedWeights:
    """Integers and scales of a layer, output channels first.

    Attributes:
        values: int8 [channels, fan_in].
        scale: float64 [channels], real units per step.
        bias: int32 [channels], in steps of x_scale · scale.
        bound: int64 [channels], largest magnitude of the accumulator.
    """

    values: NDArray[np.int8]
    scale: Float
    bias: NDArray[np.int32]
    bound: NDArray[np.int64]


def quantize_weights(
    weights: Array,
    bias: Array | None,
    *,
    bits: int,
    x_scale: float,
    x_extent: int,
    y_scale: float,
    power_of_two: bool = False,
    taps: Float | None = None,
) -> QuantizedWeights:
    """Quantize the weights of a layer.

    Args:
        weights: float [channels, fan_in].
        bias: float [channels] or None.
        bits: 2 … 8; 1 = binary, ±mean |w| by sign.
        x_scale: of the input. x_extent: largest |q − zero point| of the input.
        y_scale: of the output (dead channels and powers of two are scaled by it).
        power_of_two: choose scales so that x_scale · scale / y_scale is a power of two.
        taps: [channels, fan_in], mean input of each weight: the mean effect of rounding goes into the bias.

    Raises:
        ModelError: weights or bias aren't finite, or of a magnitude no scale can bring into 32 bits.
    """
    wide = np.asarray(weights, dtype=np.float64)
    offset = np.zeros(len(wide)) if bias is None else np.asarray(bias, dtype=np.float64).reshape(-1)
    if not (np.isfinite(wide).all() and np.isfinite(offset).all()):
        raise ModelError(
            "weights or bias of a layer are NaN or infinite", hint="the model file is damaged, or training diverged"
        )
    qmax = 2 ** (bits - 1) - 1
    scale = _scales(wide, qmax, clip=bits < 7)
    scale = admissible(scale, offset, x_scale=x_scale, y_scale=y_scale, power_of_two=power_of_two)
    return _fit(wide, offset, scale, qmax, x_scale, x_extent, taps)


def quantize_rows(table: Array, bits: int) -> tuple[NDArray[np.int8], Float]:
    """Rows of a table of embeddings in integers of their own scale.

    Args:
        table: float [rows, width]. bits: 2 … 7; 1 = ±mean of the row by sign.

    Returns:
        int8 [rows, width], float64 [rows]: real units per step, the least squared error; 0 of a row of zeros.

    Raises:
        ModelError: the table isn't finite.
    """
    if not np.isfinite(table).all():
        raise ModelError("a table of embeddings is NaN or infinite", hint="the model file is damaged")
    qmax, values, scale = 2 ** (bits - 1) - 1, np.empty(table.shape, np.int8), np.empty(len(table))
    for start in range(0, len(table), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        rows = np.asarray(table[part], dtype=np.float64)
        scale[part] = _scales(rows, qmax, clip=bits < 7)
        safe = np.where(scale[part] > 0, scale[part], 1.0)
        values[part] = _rounded(rows, safe[:, None], qmax)
    return values, scale


def admissible(scale: Float, offset: Float, *, x_scale: float, y_scale: float, power_of_two: bool = False) -> Float:
    """Scales [channels] made usable: never zero, with a bias that fits, and on the grid of shifts where asked for.

    Args:
        scale: wanted, real units per step. offset: bias, real units. The rest as of `quantize_weights`.
    """
    # A dead channel has no scale of its own: give it one in which the bias is precise and the multiplier ordinary.
    scale = np.where(scale > 0, scale, y_scale / x_scale * 2.0**-8)
    # Scales under this make the multiplier vanish; the weights then are far below the output's step anyway.
    scale = np.maximum(scale, y_scale / x_scale * 2.0**-31)
    scale = np.maximum(scale, np.abs(offset) / (x_scale * BIAS_LIMIT))
    return _to_power_of_two(scale, x_scale / y_scale) if power_of_two else scale


def keep_integers(
    stored: StoredIntegers, bias: Array | None, *, x_scale: float, x_extent: int
) -> QuantizedWeights | None:
    """Weights a model brings as symmetric int8 per output channel, unchanged; None if they aren't, or don't fit.

    Args:
        stored: values, scale and zero point [channels, fan_in].
        bias, x_scale, x_extent: as in `quantize_weights`.
    """
    channels, scales = len(stored.values), stored.scale.astype(np.float64)
    scale = scales[:, 0].copy()
    if stored.values.dtype != np.int8 or stored.zero_point.any() or (scales != scale[:, None]).any():
        return None
    if not (scale > 0).all():
        return None
    offset = np.zeros(channels) if bias is None else np.asarray(bias, dtype=np.float64).reshape(-1)
    integers = np.rint(offset / (x_scale * scale))
    bound = np.abs(stored.values.astype(np.int64)).sum(axis=1) * x_extent + np.abs(integers).astype(np.int64)
    if bound.max(initial=0) > ACCUMULATOR_LIMIT:
        return None
    return QuantizedWeights(stored.values, scale, integers.astype(np.int32), bound)


def width_of(values: NDArray[np.int8]) -> int:
    """The fewest bits that hold integer weights: 1 for ±1 alone, else 2 … 8, two's complement."""
    if values.size and (np.abs(values.astype(np.int16)) == 1).all():
        return 1
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return max(2, next(bits for bits in range(1, 9) if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1)))


def _rounded(weights: Float, scale: Float, qmax: int) -> Float:
    """Integers in ±qmax; with qmax 0 the signs (binary weights)."""
    if qmax == 0:
        return np.where(weights >= 0, 1.0, -1.0)
    return np.clip(np.rint(weights / scale), -qmax, qmax)


def _scales(weights: Float, qmax: int, *, clip: bool) -> Float:
    if qmax == 0:
        return np.asarray(np.abs(weights).mean(axis=1))
    largest = np.abs(weights).max(axis=1, initial=0.0)
    if not clip:
        return np.asarray(largest / qmax)
    best, least = largest / qmax, np.full(len(weights), np.inf)
    for share in CLIPPING:
        scale = largest * share / qmax
        safe = np.where(scale > 0, scale, 1.0)[:, None]
        error = ((np.clip(np.rint(weights / safe), -qmax, qmax) * safe - weights) ** 2).sum(axis=1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return np.asarray(best)


def _to_power_of_two(scale: Float, ratio: float) -> Float:
    """The smallest scale at least as large as given for which scale · ratio is a power of two."""
    return np.asarray(2.0 ** np.ceil(np.log2(scale * ratio) - 1e-12) / ratio)


def _fit(
    weights: Float, offset: Float, scale: Float, qmax: int, x_scale: float, x_extent: int, taps: Float | None
) -> QuantizedWeights:
    """Round, doubling the scale of every channel whose accumulator could leave 32 bits."""
    for _ in range(64):
        values = _rounded(weights, scale[:, None], qmax)
        shift = 0.0 if taps is None else ((values * scale[:, None] - weights) * taps).sum(axis=1)
        bias = np.rint((offset - shift) / (x_scale * scale))
        bound = np.abs(values).sum(axis=1) * x_extent + np.abs(bias)
        over = bound > ACCUMULATOR_LIMIT
        if not over.any():
            return QuantizedWeights(values.astype(np.int8), scale, bias.astype(np.int32), bound.astype(np.int64))
        scale = np.where(over, scale * 2, scale)
    raise ModelError(
        "weights or bias of a layer can't be brought into 32 bits",
        why=f"largest weight {np.abs(weights).max()}, largest bias {np.abs(offset).max()}, input scale {x_scale}",
        hint="look for infinite or absurd constants in the model",
    )
