"""Exact convolutions and matrix products in NumPy, on floating-point BLAS wherever the proven bound allows it.

A sum of integer products is exact in float32 while no part of it leaves ±2^24, in float64 while none leaves ±2^53, in
any order of summation. That makes the reference about as fast as a float framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[Any]


def exact_float(bound: int) -> np.dtype[Any]:
    """The cheapest float type in which sums up to `bound` are exact; bound must be at most 2^53."""
    if bound > 2**53:
        raise ValueError(f"sums up to {bound} are not exact in float64")
    return np.dtype(np.float32 if bound <= 2**24 else np.float64)


def largest(values: IntArray) -> int:
    """max|value|, 0 for an empty array."""
    return int(np.abs(values.astype(np.int64)).max()) if values.size else 0


def reach(w: IntArray, x: IntArray) -> int:
    """The largest magnitude that any part of a sum Σ w·x over all but the first axis of w can have, x in any order."""
    weights, axes = w.astype(np.int64), tuple(range(1, w.ndim))
    positive, negative = np.maximum(weights, 0).sum(axis=axes), -np.minimum(weights, 0).sum(axis=axes)
    low, high = min(int(x.min(initial=0)), 0), max(int(x.max(initial=0)), 0)
    most = np.maximum(positive * high - negative * low, negative * high - positive * low)
    return int(most.max(initial=0))


def out_size(size: int, kernel: int, stride: int, dilation: int, pads: int) -> int:
    """Output length of a convolution or pooling along one axis, ceil_mode 0; below 1 where the kernel doesn't fit."""
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def windows(x: IntArray, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> IntArray:
    """View [N, C, kh, kw, OH, OW] of a padded image [N, C, H, W]."""
    span = [dilations[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    view = view[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    result: IntArray = view.transpose(0, 1, 4, 5, 2, 3)
    return result


def pad_image(x: IntArray, pads: Sequence[int]) -> IntArray:
    """Zeros around [N, C, H, W]; pads = top, left, bottom, right."""
    if not any(pads):
        return x
    return np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))


def conv2d(
    x: IntArray,
    w: IntArray,
    bias: IntArray,
    x_zero_point: int,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> IntArray:
    """Σ w·(x − x_zero_point) + bias, int64 [N, M, OH, OW], padding counting nothing.

    Args:
        x: integers [N, C, H, W]. w: [M, C/group, kh, kw]. bias: [1, M, 1, 1].
    """
    centred = x.astype(np.int32) - x_zero_point
    dtype = exact_float(reach(w, centred))
    image = pad_image(centred.astype(dtype), pads)
    weights = w.astype(dtype)
    if w.shape[1] == 1:
        acc = _depthwise(image, weights, strides, dilations, group)
    else:
        acc = _grouped(image, weights, strides, dilations, group)
    result: IntArray = acc.astype(np.int64) + bias.astype(np.int64)
    return result


def _depthwise(image: IntArray, w: IntArray, strides: Sequence[int], dilations: Sequence[int], group: int) -> IntArray:
    taps = windows(np.repeat(image, len(w) // group, axis=1), w.shape[2:], strides, dilations)
    acc = np.zeros((*taps.shape[:2], *taps.shape[4:]), dtype=image.dtype)
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            acc += taps[:, :, i, j] * w[:, 0, i, j][:, None, None]
    return acc


def _grouped(image: IntArray, w: IntArray, strides: Sequence[int], dilations: Sequence[int], group: int) -> IntArray:
    taps = windows(image, w.shape[2:], strides, dilations)
    batch, _, _, _, height, width = taps.shape
    per_in, per_out = w.shape[1], len(w) // group
    acc = np.empty((batch, len(w), height, width), dtype=image.dtype)
    for n in range(batch):  # one image at a time: the columns of a whole batch would not fit the memory
        for g in range(group):
            columns = taps[n, g * per_in : (g + 1) * per_in].reshape(-1, height * width)
            rows = w[g * per_out : (g + 1) * per_out].reshape(per_out, -1)
            acc[n, g * per_out : (g + 1) * per_out] = (rows @ columns).reshape(per_out, height, width)
    return acc


def matmul(a: IntArray, b: IntArray, a_zero_point: int, b_zero_point: int) -> IntArray:
    """Σ_k (a − a_zero_point)·(b − b_zero_point), int64, shapes as in numpy.matmul."""
    left, right = a.astype(np.int64) - a_zero_point, b.astype(np.int64) - b_zero_point
    dtype = exact_float(largest(left) * largest(right) * a.shape[-1])
    result: IntArray = (left.astype(dtype) @ right.astype(dtype)).astype(np.int64)
    return result
