"""Networks with planted faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.frontend import FloatGraph
from edgeq.quantize import CalibrationData, QuantizeOptions, from_arrays, input_specs
from tests.quantize.models import ModelMaker

PLAIN = QuantizeOptions(observer="minmax", promote=False, recipe="fast", threads=1)


def outlier_network(folder: Path) -> FloatGraph:
    """Three convolutions; channel 0 of the second one's output is large, and nothing reads it; channel 5 is dead."""
    maker = ModelMaker(3)
    x = maker.input("x", 1, 3, 8, 8)
    first = maker.node("Conv", [x, maker.weights(8, 3, 3, 3)], ["first"], pads=[1, 1, 1, 1])
    first = maker.node("Relu", [first], ["first_relu"])
    weights = maker.random.standard_normal((8, 8, 1, 1)).astype(np.float32) / 3
    weights[0] *= 400
    weights[5] = 0
    second = maker.node("Conv", [first, maker.constant(weights)], ["second"])
    last = maker.random.standard_normal((4, 8, 1, 1)).astype(np.float32) / 3
    last[:, 0] = 0
    maker.node("Conv", [second, maker.constant(last)], ["third"])
    return maker.graph(folder, "third")


def samples_for(graph: FloatGraph, count: int = 20, power: int = 1) -> CalibrationData:
    """Normal noise to an odd power (more than 1: heavy tails), the same each time."""
    specs = input_specs(graph.model.graph)
    random = np.random.default_rng(0)
    arrays = {
        spec.name: (random.standard_normal((count, *spec.shape[1:])) ** power).astype(np.float32) for spec in specs
    }
    return from_arrays(specs, arrays)


@pytest.fixture
def outliers(tmp_path: Path) -> FloatGraph:
    """See `outlier_network`."""
    return outlier_network(tmp_path)
