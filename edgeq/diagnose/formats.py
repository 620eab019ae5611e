"""Number formats against each other, layer by layer: integers of 8 and 4 bits, floating point of 8 and 4 bits.

The question of arXiv 2303.17951, asked of one's own model: SQNR of the weights and of the activations of every layer,
rounded to each format with one scale for the tensor and with one for each channel. Each scale is the best of a few
around the one that maps the largest value to the largest number (SCALES), by squared error. Integers of activations
have a zero point, as in the integer graph; floating point has none, its zero is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.products import products
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Topology, name_of

Array = NDArray[Any]
#: In this order everywhere.
FORMATS = ("s8", "fp8 e4m3", "fp8 e5m2", "s4", "fp4 e2m1")
#: Scales tried, relative to the one that just holds the largest value.
SCALES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
#: Values of a tensor looked at.
LOOKED_AT = 65536


@dataclass(frozen=True)
class FormatRow:
    """One tensor.

    Attributes:
        layer, op: as in the model. kind: weights or activations.
        per_tensor, per_channel: format → SQNR in dB, inf where nothing is lost.
    """

    layer: str
    op: str
    kind: str
    per_tensor: Mapping[str, float]
    per_channel: Mapping[str, float]


def compare_formats(
    topology: Topology, feeds: Sequence[dict[str, Array]], threads: int | None = None
) -> list[FormatRow]:
    """SQNR of every layer's weights and of what it makes, in every format.

    Args:
        topology: of the float network. feeds: samples for the activations.
    """
    rows = []
    found = {product.layer.name: product for product in products(topology)}
    names = [name_of(value) for value in topology.values()]
    made = [name for name in names if name in topology.producer]
    values = _activations(topology, made, feeds, threads)
    for layer in topology.layers:
        if layer.name in found:
            rows.append(_row(layer.name, layer.op, "weights", found[layer.name].rows, zero_point=False))
        for value in layer.outputs:
            if name_of(value) in values:
                rows.append(_row(layer.name, layer.op, "activations", values[name_of(value)], zero_point=True))
    return rows


def _activations(
    topology: Topology, names: list[str], feeds: Sequence[dict[str, Array]], threads: int | None
) -> dict[str, Array]:
    """Some of each value's numbers, [channels, n]: the same places of every channel."""
    session = Session(model_with_outputs(topology.model, names), names)
    each = max(1, LOOKED_AT // max(1, len(feeds)))

    def run(sample: dict[str, Array]) -> list[Array]:
        return [_thinned(array, each) for array in session.run(sample)]

    parts = list(map_ordered(run, feeds, threads))
    return {name: np.concatenate([part[index] for part in parts], axis=1) for index, name in enumerate(names)}


def _thinned(array: Array, count: int) -> Array:
    rows = np.moveaxis(array, 1, 0) if array.ndim == 4 else np.moveaxis(np.atleast_1d(array), -1, 0)
    rows = rows.reshape(len(rows), -1)
    stride = max(1, -(-rows.size // count))
    return np.ascontiguousarray(rows[:, :: stride + (stride % 2 == 0)], np.float32)


def _row(layer: str, op: str, kind: str, rows: Array, zero_point: bool) -> FormatRow:
    whole = rows.reshape(1, -1)
    single = {name: sqnr_in(whole, name, zero_point) for name in FORMATS}
    return FormatRow(layer, op, kind, single, {name: sqnr_in(rows, name, zero_point) for name in FORMATS})


def sqnr_in(rows: Array, name: str, zero_point: bool = False) -> float:
    """SQNR in dB of numbers in a format.

    Args:
        rows: float [channels, n]; each row has its own scale. name: one of FORMATS.
        zero_point: integers may have one.
    """
    values = np.asarray(rows, np.float64)
    best = np.full(len(values), np.inf)
    for part in SCALES:
        rounded = _integers(values, name, part, zero_point) if name[0] == "s" else _floats(values, name, part)
        best = np.minimum(best, np.sum((rounded - values) ** 2, axis=1))
    signal, noise = float(np.sum(values**2)), float(best.sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _integers(values: Array, name: str, part: float, zero_point: bool) -> Array:
    """Rounded to integers: with a zero point over [min, max], else symmetric without the lowest."""
    bits = int(name[1:])
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    if zero_point:
        low, high = np.minimum(low, 0) * part, np.maximum(high, 0) * part
        step = _or_one((high - low) / (2**bits - 1))
        zero = np.rint(-low / step)
        return np.asarray((np.clip(np.rint(values / step) + zero, 0, 2**bits - 1) - zero) * step)
    top = 2 ** (bits - 1) - 1
    step = _or_one(np.maximum(-low, high) * part / top)
    return np.asarray(np.clip(np.rint(values / step), -top, top) * step)


def _floats(values: Array, name: str, part: float) -> Array:
    """Rounded to the numbers of a floating-point format, the largest standing for what is above it."""
    grid = magnitudes(name)
    step = _or_one(np.abs(values).max(axis=1, keepdims=True) * part / grid[-1])
    scaled = np.abs(values / step)
    middles = (grid[1:] + grid[:-1]) / 2
    return np.asarray(np.sign(values) * grid[np.searchsorted(middles, scaled)] * step)


def magnitudes(name: str) -> Array:
    """Numbers from 0 up that a format has: exponent and mantissa bits as its name says, subnormals included."""
    exponent_bits, mantissa_bits = int(name[-3]), int(name[-1])
    bias = 2 ** (exponent_bits - 1) - 1
    found = []
    for exponent in range(2**exponent_bits):
        for mantissa in range(2**mantissa_bits):
            fraction = mantissa / 2**mantissa_bits + (exponent > 0)
            found.append(fraction * 2.0 ** (max(exponent, 1) - bias))
    # E5M2 keeps its highest exponent for infinity and NaN, E4M3 only its highest number for NaN, E2M1 has neither.
    reserved = {"fp8 e5m2": 2**mantissa_bits, "fp8 e4m3": 1}.get(name, 0)
    return np.array(found[: len(found) - reserved])


def _or_one(step: Array) -> Array:
    return np.where(step > 0, step, 1.0)


def summary(rows: Sequence[FormatRow], kind: str, scale: str) -> dict[str, Any]:
    """Per format the median SQNR over the tensors of a kind, and in how many it is the best of its width.

    Args:
        kind: weights or activations. scale: per_tensor or per_channel.
    """
    chosen: list[Mapping[str, float]] = [getattr(row, scale) for row in rows if row.kind == kind]
    result = {}
    for name in FORMATS:
        width = [other for other in FORMATS if ("4" in other[:3]) == ("4" in name[:3])]
        finite = [row[name] for row in chosen if math.isfinite(row[name])]
        wins = sum(row[name] >= max(row[other] for other in width) for row in chosen)
        result[name] = {"median": float(np.median(finite)) if finite else math.inf, "best": wins, "of": len(chosen)}
    return result
