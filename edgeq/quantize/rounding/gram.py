"""Second moments of what products read, over calibration data: all that the error of a rounded layer depends on.

A row of weights w, rounded to ŵ, changes the layer's output by (ŵ − w)·x. Over the inputs x that the *integer* network
feeds the layer, its variance is (ŵ − w) H (ŵ − w)ᵀ with H = Cov(x); the mean (ŵ − w)·E(x) goes into the bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgeq.quantize.error.fakequant import FakeQuantized
from edgeq.quantize.integerize.emitter import attribute
from edgeq.quantize.products import Product
from edgeq.quantize.samples.tokens import Tokens, find_tokens
from edgeq.quantize.session import Session, default_threads
from edgeq.quantize.topology import name_of

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Rows of inputs wanted per entry of a row of weights, and the fewest positions looked at per sample.
ROWS_PER_WEIGHT, POSITIONS = 32, 64


@dataclass(frozen=True)
class Gram:
    """Moments of a layer's input.

    Attributes:
        covariance: [groups, fan-in, fan-in], real units squared.
        mean: [groups, fan-in], real units.
        rows: number of input vectors seen.
        cross: [groups, fan-in, fan-in], covariance of the float network's input (first) with the integer network's.
    """

    covariance: Float
    mean: Float
    rows: int
    cross: Float | None = None


class _Sums:
    """Running sums over input vectors, about the first sample's mean: single-precision products of large values would
    drown the variance."""

    def __init__(self, product: Product, samples: int) -> None:
        self.product = product
        self.groups, fan_in = product.group, product.rows.shape[1]
        self.positions = max(POSITIONS, -(-ROWS_PER_WEIGHT * fan_in // max(1, samples)))
        self.squares = np.zeros((self.groups, fan_in, fan_in))
        self.pivot: NDArray[np.float32] | None = None
        self.sum = np.zeros((self.groups, fan_in))
        self.float_sum = np.zeros((self.groups, fan_in))
        self.cross: Float | None = None
        self.rows = 0

    def add(self, array: Array, reference: Array | None = None) -> None:
        """Take in one sample's input, and what it is in the float network."""
        vectors = input_vectors(self.product, array, self.positions)
        if self.pivot is None:
            self.pivot = vectors.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        vectors = vectors - self.pivot
        if reference is not None:
            exact = input_vectors(self.product, reference, self.positions) - self.pivot
            self.float_sum += exact.sum(axis=1, dtype=np.float64)
            self.cross = (0.0 if self.cross is None else self.cross) + exact.transpose(0, 2, 1) @ vectors
        if self.groups == 1:
            self.squares[0] += vectors[0].T @ vectors[0]  # half the work of a general product
        else:
            self.squares += vectors.transpose(0, 2, 1) @ vectors
        self.sum += vectors.sum(axis=1, dtype=np.float64)
        self.rows += vectors.shape[1]

    def result(self) -> Gram:
        away = self.sum / self.rows
        cross = None
        if self.cross is not None:
            cross = self.cross / self.rows - (self.float_sum / self.rows)[:, :, None] * away[:, None, :]
        mean = away if self.pivot is None else away + self.pivot[:, 0]
        return Gram(self.squares / self.rows - away[:, :, None] * away[:, None, :], mean, self.rows, cross)


def collect(
    network: FakeQuantized,
    samples: Sequence[dict[str, Array]],
    layers: Iterable[Product],
    reference: Session | None = None,
    threads: int | None = None,
) -> dict[str, Gram]:
    """Moments of the inputs of some layers.

    Args:
        network: a twin that gives out the inputs of these layers.
        samples: feeds. layers: products to look at.
        reference: the float network giving out the same values, for `Gram.cross`.
        threads: samples run at a time.

    Returns:
        by layer name.
    """
    sums = {product.layer.name: _Sums(product, len(samples)) for product in layers}
    tokens = find_tokens(network.plan.topology)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads or default_threads()) as pool:
        for feeds, values in zip(samples, network.stream(samples, None, threads), strict=True):
            inputs = _without_padding(dict(zip(network.outputs, values, strict=True)), tokens, feeds)
            exact: Mapping[str, Array] = {}
            if reference is not None:
                known = feeds | dict(zip(reference.outputs, reference.run(feeds), strict=True))
                exact = _without_padding({name: known[name] for name in network.outputs}, tokens, feeds)
            # One task per layer: each adds up its samples in order, whatever the number of threads.
            names = [name_of(running.product.layer.inputs[0]) for running in sums.values()]
            tasks = [
                pool.submit(running.add, inputs[name], exact.get(name))
                for name, running in zip(names, sums.values(), strict=True)
            ]
            for task in tasks:
                task.result()
    return {name: running.result() for name, running in sums.items()}


def _without_padding(
    values: Mapping[str, Array], tokens: Tokens | None, feeds: Mapping[str, Array]
) -> Mapping[str, Array]:
    real = None if tokens is None else tokens.real(feeds)
    if tokens is None or real is None:
        return values
    axes = tokens.axes
    return {name: np.compress(real, a, axes[name]) if name in axes else a for name, a in values.items()}


def input_vectors(product: Product, array: Array, limit: int) -> NDArray[np.float32]:
    """What the rows of weights are multiplied with, at up to `limit` output positions spread evenly.

    Args:
        product: the layer. array: its input, [N, C, H, W] or [..., K].

    Returns:
        [groups, positions, fan-in].
    """
    if product.layer.op == "MatMul":
        rows = array.reshape(1, -1, array.shape[-1])
        return np.ascontiguousarray(rows[:, _spread(rows.shape[1], limit)], dtype=np.float32)
    windows = _transposed_windows(product, array) if product.layer.op == "ConvTranspose" else _windows(product, array)
    # [N, C, oh, ow, kh, kw] at some positions -> [positions, groups, C/g·kh·kw]
    count, _, height, width = windows.shape[:4]
    picture, place = np.divmod(_spread(count * height * width, limit), height * width)
    chosen = windows[picture, :, place // width, place % width]
    grouped = chosen.reshape(len(chosen), product.group, -1)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2), dtype=np.float32)


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` indices spread evenly over `count` things."""
    if count <= limit:
        return np.arange(count)
    return np.arange(limit) * count // limit


def _windows(product: Product, array: Array) -> Array:
    node = product.layer.node
    kernel = product.weights.shape[2:]
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    return _slide(array, kernel, attribute(node, "pads", [0, 0, 0, 0]), strides, dilations)


def _transposed_windows(product: Product, array: Array) -> Array:
    """A transposed convolution as an ordinary one of the input with zeros between its elements, kernel turned round."""
    node = product.layer.node
    kernel = product.weights.shape[2:]
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    pads, extra = attribute(node, "pads", [0, 0, 0, 0]), attribute(node, "output_padding", [0, 0])
    sizes = [(array.shape[2 + axis] - 1) * strides[axis] + 1 for axis in (0, 1)]
    sparse = np.zeros((*array.shape[:2], *sizes), array.dtype)
    sparse[:, :, :: strides[0], :: strides[1]] = array
    reach = [dilations[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    around = [reach[axis] - pads[axis] for axis in (0, 1)] + [reach[a] - pads[2 + a] + extra[a] for a in (0, 1)]
    return _slide(sparse, kernel, around, [1, 1], dilations)[..., ::-1, ::-1]


def _slide(
    array: Array, kernel: Sequence[int], pads: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """Windows [N, C, oh, ow, kh, kw] of [N, C, H, W]; padding is zero, negative padding cuts."""
    top, left, bottom, right = pads
    grown = np.pad(array, ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    rows = slice(max(-top, 0), grown.shape[2] - max(-bottom, 0))
    grown = grown[:, :, rows, max(-left, 0) : grown.shape[3] - max(-right, 0)]
    reach = [dilations[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    views = np.lib.stride_tricks.sliding_window_view(grown, reach, axis=(2, 3))
    return views[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
