"""Every layer's error: alone and accumulated, by cause and by channel, with range, saturation and dead channels.

Alone: the layer computes in integers on the float model's values, rounded to its inputs' grids. Its error is taken
apart by changing one thing at a time, in this order, each time measuring what changes in the output:

input        float weights, rounded inputs, against the float layer
weight       integer weights and bias as well
output       its result rounded and clipped to the output's grid as well
arithmetic   the integer layer: tables, integer softmax and normalization, double rounding

Input and output together are the share of activations, arithmetic the share of nonlinearities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.diagnose.opened import IntegerTwin, OpenedFloat
from edgeq.integer.arithmetic import dequantize
from edgeq.integer.graph import Quant
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.fakequant import real_weights
from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.integerize import Integerized
from edgeq.quantize.integerize.emitter import on_grid
from edgeq.quantize.plan import S32, Plan
from edgeq.quantize.products import plain_weights, products, read_quant
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Layer, name_of

Array = NDArray[Any]
CAUSES = ("input", "weight", "output", "arithmetic")
#: Channels that are listed, bins of a histogram.
WORST, BINS = 5, 48


@dataclass(frozen=True)
class ChannelError:
    """One channel of a layer's output. `sqnr`: alone, dB. `largest`: of |float value|."""

    channel: int
    sqnr: float
    largest: float


@dataclass(frozen=True)
class LayerError:
    """One layer of the float graph.

    Attributes:
        name, op: as in the model ("input" for a graph input). output: name of its value.
        sqnr, cosine: of the integer layer alone; sqnr_accumulated, cosine_accumulated: in the integer network.
        shares: cause (CAUSES) → part of the noise alone, together 1; all 0 where there is no noise.
        dtype, scale, zero_point: of the output's integers. low, high: real values they reach.
        seen: extremes on the calibration data. used: part of the integer range that the samples reach.
        clipped: part of the values outside [low, high]. dead, channels: those with one value on all samples, and all.
        worst: channels with the least SQNR. histogram: (lower end, bin width, counts) of the values.
    """

    name: str
    op: str
    output: str
    sqnr: float
    sqnr_accumulated: float
    cosine: float
    cosine_accumulated: float
    shares: Mapping[str, float]
    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    seen: tuple[float, float]
    used: float
    clipped: float
    dead: int
    channels: int
    worst: Sequence[ChannelError]
    histogram: tuple[float, float, Sequence[int]]


def layer_errors(
    plan: Plan,
    built: Integerized,
    feeds: Sequence[dict[str, Array]],
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[LayerError]:
    """Measure every value that the integer network rounds, in order.

    Args:
        plan, built: the network and its integer graph. feeds: samples.
        threads: samples run at a time. progress: called with ("layers", done, total).
    """
    shown = [
        name_of(value)
        for value in plan.topology.values()
        if plan.ties.is_root(name_of(value)) and not plan.is_exact(name_of(value))
    ]
    probe = _Probe(plan, built, shown)
    totals: dict[str, Array] = {}
    extremes: dict[str, Array] = {}
    for done, (sums, ends) in enumerate(map_ordered(probe.sample, feeds, threads), start=1):
        for name in sums:
            totals[name] = totals[name] + sums[name] if name in totals else sums[name]
            extremes[name] = np.maximum(extremes[name], ends[name]) if name in extremes else ends[name]
        if progress:
            progress("layers", done, len(feeds))
    return [_report(plan, name, probe.quants[name], totals[name], extremes[name]) for name in totals]


#: Rows of the sums per channel.
_ROWS = ("signal", "alone", "dot_alone", "norm_alone", "accumulated", "dot", "norm", *CAUSES, "clipped", "size")


class _Probe:
    """Evaluates one sample: sums per value and channel."""

    def __init__(self, plan: Plan, built: Integerized, shown: Sequence[str]) -> None:
        self._plan, self._built, self._shown = plan, built, list(shown)
        found = products(plan.topology)
        self._opened = OpenedFloat(plan, found)
        self._float = Session(model_with_outputs(plan.topology.model, self._opened.made), self._opened.made)
        made = {*self._opened.made, *self._shown}
        self._integer = IntegerTwin(built, [name for name in made if name in built.operands])
        self.quants = self._integer.quants
        self._weights: dict[str, Array] = {}
        for product in found:
            name = product.layer.name
            chosen = plan.weights.get(name) or plain_weights(plan, product)
            self._weights |= real_weights(product, chosen, read_quant(plan, product).scale)

    def sample(self, feeds: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """({value: sums [rows, channels]}, {value: [largest, −smallest] per channel})."""
        floats = dict(zip(self._opened.made, self._float.run(feeds), strict=True))
        integers = quantize_inputs(self._built.graph, feeds)
        known = {**{n: x for n, x in feeds.items() if x.dtype.kind == "f"}, **floats}
        rounded = {name: self._round(name, array) for name, array in known.items()}
        fed = {name: rounded.get(name, array) for name, array in feeds.items()}
        given = {name: rounded[name] for name in floats}
        inputs_rounded = self._opened.run(fed, given, {})
        weights_too = self._opened.run(fed, given, self._weights)
        alone, whole = self._integer.run_opened(integers, known), self._integer.run(integers)
        sums, ends = {}, {}
        for name in self._shown:
            quant, real = self.quants[name], known[name]
            stages = [real, inputs_rounded.get(name, real), weights_too.get(name, real)]
            stages.append(self._round(name, stages[-1]))
            # An input is rounded and nothing else: its noise is that of its output's grid.
            stages.append(_real(alone[name], quant) if name in floats else stages[-1])
            sums[name] = _sums(stages, _real(whole[name], quant), quant)
            channels = _by_channel(real)
            ends[name] = np.stack([channels.max(axis=1), -channels.min(axis=1)])
        return sums, ends

    def _round(self, name: str, array: Array) -> Array:
        quant = self.quants.get(name)
        if quant is None or quant.dtype == S32 or array.dtype.kind != "f":
            return array
        return _real(on_grid(array, quant), quant)


def _real(integers: Array, quant: Quant) -> Array:
    return np.asarray(dequantize(integers, quant.scale, quant.zero_point), np.float32)


def _by_channel(array: Array) -> Array:
    """[channels, the rest]: axis 1 of images, the last axis of others."""
    if array.ndim == 0:
        return array.reshape(1, 1)
    axis = 1 if array.ndim == 4 else array.ndim - 1
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _sums(stages: Sequence[Array], accumulated: Array, quant: Quant) -> Array:
    """Powers and products per channel, one row for each of _ROWS; `stages`: float … integer layer, see CAUSES."""

    def power(a: Array, b: Array) -> Array:
        return np.asarray(np.einsum("cn,cn->c", a, b, dtype=np.float64))

    parts = [_by_channel(stage).astype(np.float64) for stage in stages]
    real, alone, whole = parts[0], parts[-1], _by_channel(accumulated).astype(np.float64)
    low, high = ((limit - quant.zero_point) * quant.scale for limit in quant.limits)
    half = quant.scale / 2
    clipped = ((real < low - half) | (real > high + half)).sum(axis=1)
    rows = [power(real, real), power(alone - real, alone - real), power(real, alone), power(alone, alone)]
    rows += [power(whole - real, whole - real), power(real, whole), power(whole, whole)]
    rows += [power(b - a, b - a) for a, b in itertools.pairwise(parts)]
    rows += [clipped, np.full(len(real), real.shape[1])]
    return np.stack(rows).astype(np.float64)


def decibel(signal: float, noise: float) -> float:
    """10·log10(signal / noise); +inf without noise, −inf where there is only noise."""
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _report(plan: Plan, name: str, quant: Quant, sums: Array, ends: Array) -> LayerError:
    total = dict(zip(_ROWS, sums.sum(axis=1), strict=True))
    layer: Layer | None = plan.topology.producer.get(name)
    low, high = ((limit - quant.zero_point) * quant.scale for limit in quant.limits)
    seen = (float(-ends[1].max()), float(ends[0].max()))
    noise = sum(total[cause] for cause in CAUSES)
    reached = max(0.0, min(seen[1], high)) - min(0.0, max(seen[0], low))
    dead = int(np.count_nonzero(ends[0] == -ends[1]))
    return LayerError(
        name=layer.name if layer else name,
        op=layer.op if layer else "input",
        output=name,
        sqnr=decibel(total["signal"], total["alone"]),
        sqnr_accumulated=decibel(total["signal"], total["accumulated"]),
        cosine=_cosine(total["dot_alone"], total["signal"], total["norm_alone"]),
        cosine_accumulated=_cosine(total["dot"], total["signal"], total["norm"]),
        shares={cause: float(total[cause] / noise) if noise else 0.0 for cause in CAUSES},
        dtype=quant.dtype.name,
        scale=quant.scale,
        zero_point=quant.zero_point,
        low=float(low),
        high=float(high),
        seen=seen,
        used=float(reached / (high - low)) if high > low else 0.0,
        clipped=float(total["clipped"] / total["size"]) if total["size"] else 0.0,
        dead=dead,
        channels=sums.shape[1],
        worst=_worst(sums, ends),
        histogram=_histogram(plan.ranges.statistics[name]),
    )


def _cosine(dot: float, a: float, b: float) -> float:
    return float(dot / math.sqrt(a * b)) if a > 0 and b > 0 else (1.0 if a == b else 0.0)


def _worst(sums: Array, ends: Array) -> list[ChannelError]:
    """Channels that have a signal, by the least SQNR alone."""
    signal, noise = sums[_ROWS.index("signal")], sums[_ROWS.index("alone")]
    found = [
        ChannelError(index, decibel(float(signal[index]), float(noise[index])), float(np.abs(ends[:, index]).max()))
        for index in range(sums.shape[1])
        if signal[index] > 0 and noise[index] > 0
    ]
    return sorted(found, key=lambda channel: channel.sqnr)[:WORST]


def _histogram(statistics: TensorStatistics) -> tuple[float, float, list[int]]:
    """What calibration counted, in a few bins; exact zeros are in none."""
    piece = statistics.copy()
    while len(piece.counts) > BINS:
        piece.fold()
    return piece.first * piece.width, piece.width, [int(count) for count in piece.counts]
