"""Fixed-point positions and weights of linear resizing, shared by the reference, the function body and kernel packing.

A source position is a rational number with a positive denominator, (a·o + b) / d for output index o: all integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 11
COORDINATE_MODES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")


@dataclass(frozen=True)
class AxisWeights:
    """Two taps per output index along one axis: (2048 − weight)·x[first] + weight·x[second].

    first, second: int32 [out], indices into the input axis, second = min(first + 1, in − 1).
    weight: int32 [out], in [0, 2047], the share of `second` in 1/2048.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weight: NDArray[np.int32]


def source_ratio(mode: str, size_in: int, size_out: int) -> tuple[int, int, int]:
    """(a, b, d) of ONNX's coordinate transformation: position = (a·o + b) / d, with scale = size_out / size_in."""
    if mode == "align_corners":
        return (size_in - 1, 0, size_out - 1) if size_out > 1 else (0, 0, 1)
    if mode == "asymmetric":
        return size_in, 0, size_out
    if mode == "pytorch_half_pixel" and size_out == 1:
        return 0, 0, 1
    return 2 * size_in, size_in - size_out, 2 * size_out


def axis_weights(mode: str, size_in: int, size_out: int) -> AxisWeights:
    """Taps and 11-bit weights of one axis.

    position in 1/2048 = floor((2048·(a·o + b)·2 + d) / (2·d)) (round half up), limited to [0, (in − 1)·2048].

    Args:
        mode: one of COORDINATE_MODES (ONNX Resize's names and formulas, sizes given, not scales).
        size_in, size_out: lengths, at least 1.
    """
    a, b, d = source_ratio(mode, size_in, size_out)
    out: NDArray[Any] = np.arange(size_out, dtype=np.int64)
    position = np.clip((((a * out + b) << (WEIGHT_BITS + 1)) + d) // (2 * d), 0, (size_in - 1) << WEIGHT_BITS)
    first = position >> WEIGHT_BITS
    return AxisWeights(
        first.astype(np.int32),
        np.minimum(first + 1, size_in - 1).astype(np.int32),
        (position & ((1 << WEIGHT_BITS) - 1)).astype(np.int32),
    )


NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def nearest_indices(coordinates: str, nearest: str, size_in: int, size_out: int) -> NDArray[np.int64]:
    """Source index of every output index of a nearest-neighbour resize along one axis, by exact rational arithmetic.

    Args:
        coordinates: one of COORDINATE_MODES. nearest: one of NEAREST_MODES (ONNX's names).
        size_in, size_out: lengths, at least 1.
    """
    a, b, d = source_ratio(coordinates, size_in, size_out)
    n: NDArray[Any] = a * np.arange(size_out, dtype=np.int64) + b
    index = {
        "floor": n // d,
        "ceil": -(-n // d),
        "round_prefer_ceil": (2 * n + d) // (2 * d),
        "round_prefer_floor": -((-2 * n + d) // (2 * d)),
    }[nearest]
    result: NDArray[np.int64] = np.clip(index, 0, size_in - 1)
    return result


def nearest_is_exact(coordinates: str, nearest: str, size_in: int, size_out: int) -> bool:
    """Whether float32 arithmetic, as ONNX runtimes use it, finds the indices of `nearest_indices` for these sizes."""
    out = np.arange(size_out, dtype=np.float32)
    scale, half = np.float32(size_out) / np.float32(size_in), np.float32(0.5)
    if coordinates == "align_corners":
        position = out * np.float32(size_in - 1) / np.float32(max(size_out - 1, 1))
    elif coordinates == "asymmetric":
        position = out / scale
    elif coordinates == "pytorch_half_pixel" and size_out == 1:
        position = out
    else:
        position = (out + half) / scale - half
    index = {
        "floor": np.floor(position),
        "ceil": np.ceil(position),
        "round_prefer_ceil": np.floor(position + half),
        "round_prefer_floor": np.ceil(position - half),
    }[nearest]
    exact = nearest_indices(coordinates, nearest, size_in, size_out)
    return bool(np.array_equal(np.clip(index, 0, size_in - 1).astype(np.int64), exact))
