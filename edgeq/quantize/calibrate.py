"""Run the float graph on calibration data and remember the distribution of every tensor that gets quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, ModelError
from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.observers import DEFAULT, get
from edgeq.quantize.samples.data import CalibrationData, from_arrays, random_data
from edgeq.quantize.samples.tokens import find_tokens
from edgeq.quantize.session import Session, input_specs, map_ordered, model_with_outputs
from edgeq.quantize.topology import Topology, embedding_table, name_of

if TYPE_CHECKING:
    from edgeq.frontend.graph import FloatGraph

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

#: Values of a tensor counted per sample; the extremes always look at all of them.
COUNTED = 16384

#: Samples and least number of values for which an input is taken for a picture by its 8-bit grid.
_LOOKED_AT, _SMALLEST_IMAGE = 4, 1024


@dataclass(frozen=True)
class Ranges:
    """Result of calibration.

    Attributes:
        statistics: by value name, for every float value of the topology.
        observer: name of the observer that turns statistics into ranges, unless the policy says otherwise.
        samples: number of samples seen.
        calibrated: False if the data was random.
        source: where the data came from.
        warnings: what the user should know about the data.
        images: inputs whose values lie on an 8-bit grid per channel; int8 holds them (nearly) exactly, so their range
            is what was observed, whatever the observer.
        means: per value that a product reads: mean over everything but its channels (axis 1 of images, else the last),
            for bias correction; empty where the data was random.
    """

    statistics: Mapping[str, TensorStatistics]
    observer: str = DEFAULT
    samples: int = 0
    calibrated: bool = True
    source: str = ""
    warnings: tuple[str, ...] = field(default=())
    images: frozenset[str] = field(default=frozenset())
    means: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def range(self, name: str, observer: str | None = None, levels: int = 256) -> tuple[float, float]:
        """(low, high) of one value by an observer."""
        return get(observer or ("minmax" if name in self.images else self.observer))(self.statistics[name], levels)


def as_data(graph: FloatGraph, data: Mapping[str, Array] | CalibrationData | None, seed: int = 0) -> CalibrationData:
    """Data in checked form; None becomes random data."""
    if isinstance(data, CalibrationData):
        return data
    specs = input_specs(graph.model.graph)
    return random_data(specs, seed=seed) if data is None else from_arrays(specs, data)


def calibrate(
    graph: FloatGraph,
    data: Mapping[str, Array] | CalibrationData | None,
    observer: str = DEFAULT,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """Statistics of every tensor of the graph over calibration data.

    Args:
        graph: from the front end.
        data: {input name: [samples, ...]}, checked data, or None for random data (marked as not calibrated).
        observer: one of edgeq.quantize.observers.OBSERVERS.
        threads: samples run at a time; by default one per core.
        progress: called with (stage, done, total).

    Raises:
        DataError: the data doesn't fit, or makes the float graph produce NaN or infinity.
        UsageError: unknown observer.
    """
    get(observer)
    samples = as_data(graph, data)
    topology = Topology(graph)
    inputs = {name_of(value) for value in graph.model.graph.inputs}
    names = [name_of(value) for value in topology.values()]
    inner = [name for name in names if name not in inputs]
    statistics = {name: TensorStatistics() for name in names}
    for layer in topology.layers:
        table = embedding_table(layer)
        if table is not None:
            # Rows that calibration doesn't happen to choose count as well.
            _observe(statistics[name_of(layer.output)], name_of(layer.output), table, 0)
    session = Session(model_with_outputs(graph.model, inner), inner)

    tokens = find_tokens(topology) if samples.calibrated else None

    def run(feeds: dict[str, Array]) -> dict[str, Array]:
        outputs = dict(zip(inner, session.run(feeds), strict=True))
        values = outputs | {name: feeds[name] for name in names if name in inputs}
        real = None if tokens is None else tokens.real(feeds)
        if tokens is not None and real is not None:
            values |= {name: np.compress(real, values[name], axis) for name, axis in tokens.axes.items()}
        return values

    averages = {name: _ChannelMean() for name in _read_by_products(topology)} if samples.calibrated else {}
    for done, values in enumerate(map_ordered(run, samples.feeds(), threads), start=1):
        for name, array in values.items():
            _observe(statistics[name], name, array, done)
            if name in averages:
                averages[name].add(array)
        if progress:
            progress("calibrate", done, samples.runs)
    images = frozenset(name for name in inputs if name in names and samples.calibrated and _is_image(samples, name))
    means = {name: average.mean for name, average in averages.items()}
    return Ranges(
        statistics, observer, len(samples), samples.calibrated, samples.source, samples.warnings, images, means
    )


def _read_by_products(topology: Topology) -> set[str]:
    return {name_of(layer.inputs[0]) for layer in topology.layers if layer.op in ("Conv", "MatMul") and layer.inputs}


class _ChannelMean:
    """Running mean per channel: axis 1 of rank-4 values, the last axis of others."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | float = 0.0
        self._runs = 0

    def add(self, array: Array) -> None:
        """Take in one run."""
        axes = (0, 2, 3) if array.ndim == 4 else tuple(range(array.ndim - 1))
        self._sum = self._sum + array.mean(axis=axes, dtype=np.float32).astype(np.float64)
        self._runs += 1

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the runs."""
        return np.asarray(self._sum / self._runs)


def _is_image(samples: CalibrationData, name: str) -> bool:
    """Whether an input looks like pictures: [1, 3 or 4, H, W] channels first or last, 8-bit grid in every channel."""
    array = samples.arrays[name][:_LOOKED_AT]
    if array.ndim != 4:
        return False
    axis = min((1, 3), key=lambda k: array.shape[k])
    if array.shape[axis] > 4 or array[0].size < _SMALLEST_IMAGE:
        return False
    channels = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return all(len(np.unique(channel)) <= 256 for channel in channels)


def _observe(statistics: TensorStatistics, name: str, array: Array, run: int) -> None:
    if array.dtype.kind != "f":
        raise ModelError("a tensor is not of a floating type", where=name, why=f"it is {array.dtype}")
    # min and max propagate NaN: looking at them finds any value that isn't finite.
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(
            "the float model produces NaN or infinity on the calibration data",
            where=f"tensor {name!r}, run {run}",
            hint="check the preprocessing of the samples and the model itself",
        )
    statistics.observe(array, stride_for(array.size), (low, high))


def stride_for(size: int, counted: int = COUNTED) -> int:
    """Stride that leaves about `counted` of `size` values: an odd number, so that it drifts over rows and channels."""
    stride = -(-size // counted)
    return max(1, stride + (stride % 2 == 0))
