"""Moving scale between layers: the function stays, ranges change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.frontend import FloatGraph
from edgeq.quantize import QuantizeOptions, quantize
from edgeq.quantize.products import product_of
from edgeq.quantize.samples.data import from_arrays
from edgeq.quantize.scaling.equalize import equalize
from edgeq.quantize.scaling.links import links, rescaled
from edgeq.quantize.scaling.migrate import migrate
from edgeq.quantize.session import input_specs
from edgeq.quantize.topology import Topology
from tests.quantize.models import ModelMaker, samples, small_classifier


def chain(folder: Path) -> FloatGraph:
    """Convolutions of every kind in a row: grouped, depthwise, transposed; ReLUs between them."""
    m = ModelMaker()
    y = m.node("Conv", [m.input("x", 1, 4, 6, 6), m.weights(8, 4, 1, 1), m.weights(8)], ["a"])
    y = m.node("Conv", [m.node("Relu", [y], ["ra"]), m.weights(8, 1, 3, 3), m.weights(8)], ["b"], group=8)
    y = m.node("Conv", [m.node("Relu", [y], ["rb"]), m.weights(6, 4, 1, 1)], ["c"], group=2)
    y = m.node("ConvTranspose", [m.node("Relu", [y], ["rc"]), m.weights(6, 3, 2, 2)], ["d"], strides=[2, 2])
    return m.graph(folder, y)


def transformer(folder: Path) -> FloatGraph:
    """A normalization with outliers in one channel, read by three products; a product behind a product."""
    m = ModelMaker()
    x = m.input("x", 1, 5, 8)
    gamma = np.ones(8, np.float32)
    gamma[3] = 60.0
    y = m.node("LayerNormalization", [x, m.constant(gamma), m.weights(8)], ["norm"])
    parts = [m.node("MatMul", [y, m.weights(8, 8)], [name]) for name in "qkv"]
    y = m.node("Add", [m.node("Add", parts[:2]), m.node("Relu", [parts[2]])])
    y = m.node("Add", [m.node("MatMul", [y, m.weights(8, 8)], ["f1"]), m.weights(8)], ["f1_bias"])
    return m.graph(folder, m.node("MatMul", [m.node("Relu", [y]), m.weights(8, 3)], ["f2"]))


def feeds(graph: FloatGraph) -> list[dict[str, np.ndarray]]:
    return list(from_arrays(input_specs(graph.model.graph), samples(graph)).feeds())


def same(graph: FloatGraph, other: FloatGraph) -> bool:
    """Whether two graphs compute the same, up to float32's rounding."""
    pairs = [(next(iter(graph.run(feed).values())), next(iter(other.run(feed).values()))) for feed in feeds(graph)[:4]]
    return all(np.allclose(a, b, atol=2e-5 * np.abs(a).max()) for a, b in pairs)


def test_what_can_be_scaled(tmp_path: Path) -> None:
    assert [link.value for link in links(Topology(chain(tmp_path)))] == ["ra", "rb", "rc"]
    found = {link.value: [r.layer.name for r in link.readers] for link in links(Topology(transformer(tmp_path)))}
    assert list(found.values()) == [["node_q", "node_k", "node_v"], ["node_f2"]]
    # A Clip has a limit that doesn't scale, pooling isn't looked through.
    assert [link.value for link in links(Topology(small_classifier(tmp_path)))] == ["stem_relu"]


@pytest.mark.parametrize("make", [chain, transformer, small_classifier])
def test_scaling_by_anything_changes_nothing(make, tmp_path: Path) -> None:
    graph = make(tmp_path)
    random = np.random.default_rng(0)
    before = {value.name: value.const_value.numpy().copy() for value in graph.model.graph.initializers.values()}
    scales = {link.value: np.exp(random.standard_normal(link.channels)) for link in links(Topology(graph))}
    assert same(graph, rescaled(graph, scales))
    after = {value.name: value.const_value.numpy() for value in graph.model.graph.initializers.values()}
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_equalized_weights_have_equal_ranges(tmp_path: Path) -> None:
    graph = chain(tmp_path)
    result = equalize(graph)
    assert result is not None
    assert same(graph, result)
    for link in links(Topology(result)):
        maker = product_of(link.maker)
        assert maker is not None
        np.testing.assert_allclose(np.abs(maker.rows).max(axis=1), link.read_range(), rtol=0.05)
    assert equalize(result) is None or same(graph, result)


def test_dead_channels_stay_what_they_are(tmp_path: Path) -> None:
    m = ModelMaker()
    weights = m.random.standard_normal((4, 4)).astype(np.float32)
    weights[:, 2] = 0
    y = m.node("Relu", [m.node("MatMul", [m.input("x", 1, 4), m.constant(weights)], ["a"])])
    graph = m.graph(tmp_path, m.node("MatMul", [y, m.weights(4, 4)], ["b"]))
    for result in (equalize(graph), migrate(graph, feeds(graph))):
        assert result is not None
        assert same(graph, result)


def test_nothing_to_scale(tmp_path: Path) -> None:
    m = ModelMaker()
    graph = m.graph(tmp_path, m.node("MatMul", [m.input("x", 1, 4), m.weights(4, 4)], ["y"]))
    assert equalize(graph) is None
    assert migrate(graph, feeds(graph)) is None


def test_outliers_move_into_the_weights(tmp_path: Path) -> None:
    graph = transformer(tmp_path)
    result = migrate(graph, feeds(graph))
    assert result is not None
    assert same(graph, result)

    def spread(of: FloatGraph) -> float:
        name = links(Topology(graph))[0].value
        rows = np.concatenate([of.run(feed, keep=[name])[name].reshape(-1, 8) for feed in feeds(graph)])
        largest = np.abs(rows).max(axis=0)
        return float(largest.max() / np.median(largest))

    assert spread(result) < spread(graph) / 4


def test_channels_of_depthwise_layers_get_one_range(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    result = migrate(graph, feeds(graph))
    assert result is not None
    rows = np.concatenate([result.run(feed, keep=["stem_relu"])["stem_relu"] for feed in feeds(graph)])
    np.testing.assert_allclose(rows.max(axis=(0, 2, 3)), rows.max(), rtol=1e-4)


@pytest.mark.parametrize("step", ["migrate", "equalize", "ranges"])
def test_steps_alone(step: str, tmp_path: Path) -> None:
    graph = transformer(tmp_path) if step == "migrate" else chain(tmp_path)
    data = samples(graph, 48)
    plain = quantize(graph, data, QuantizeOptions(recipe="fast", promote=False)).report
    found = quantize(graph, data, QuantizeOptions(steps=(step,), promote=False)).report
    assert found.recipe == "custom"
    assert found.steps[0].name == step
    if step == "migrate":
        assert found.steps[0].kept
        assert found.outputs[0].sqnr_db > plain.outputs[0].sqnr_db
    assert found.outputs[0].sqnr_db > plain.outputs[0].sqnr_db - 1
