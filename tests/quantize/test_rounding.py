"""Rounding by the error of the layer's output: moments, scales, GPTQ, coordinate descent, AdaRound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeq.quantize import QuantizeOptions, prepare
from edgeq.quantize.error.fakequant import FakeQuantized
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.products import Product, plain_weights, products
from edgeq.quantize.rounding.adaround import adaround
from edgeq.quantize.rounding.clip import candidates, clipped, largest
from edgeq.quantize.rounding.gptq import damped, descend, gptq
from edgeq.quantize.rounding.gram import Gram, _Sums, input_vectors
from edgeq.quantize.rounding.problem import Problem
from edgeq.quantize.rounding.rescale import rescale
from edgeq.quantize.rounding.sequential import moments, round_in_order, stages
from edgeq.quantize.rounding.solve import ROUNDINGS, nearest, solve_all
from edgeq.quantize.session import Session
from tests.quantize.models import ModelMaker, deep_network, samples, small_classifier

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**31))


def problem(groups: int, rows: int, columns: int, seed: int, bits: int = 4) -> Problem:
    """A random layer whose inputs are correlated."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((groups, columns, columns))
    weights = random.standard_normal((groups, rows, columns))
    return Problem(
        weights=weights,
        targets=weights,
        covariance=damped(mixing @ mixing.transpose(0, 2, 1)),
        mean=random.standard_normal((groups, columns)),
        bits=bits,
        bias=random.standard_normal(groups * rows),
        x_scale=0.02,
        x_extent=255,
        y_scale=0.05,
    )


@given(SIZES, st.integers(2, 8), st.sampled_from(sorted(ROUNDINGS)))
@settings(max_examples=40, deadline=None)
def test_every_rounding_gives_whole_numbers_in_range(size: tuple[int, int, int, int], bits: int, name: str) -> None:
    layer = problem(*size, bits=bits)
    values = ROUNDINGS[name](layer, largest(layer))
    assert values.shape == layer.weights.shape
    assert np.array_equal(values, np.rint(values))
    assert np.abs(values).max() <= layer.qmax


@pytest.mark.parametrize("name", ["gptq", "adaround"])
def test_searches_beat_rounding_to_nearest(name: str) -> None:
    gains = []
    for seed in range(8):
        layer = problem(2, 6, 24, seed)
        scale = largest(layer)
        found, plain = (layer.error(ROUNDINGS[kind](layer, scale), scale).sum() for kind in (name, "nearest"))
        gains.append(found / plain)
    assert max(gains) < 1
    assert np.mean(gains) < 0.6


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_coordinate_descent_never_makes_it_worse(size: tuple[int, int, int, int]) -> None:
    layer = problem(*size)
    scale = largest(layer)
    before = nearest(layer, scale)
    after = descend(before, layer.targets / scale[:, :, None], layer.covariance, layer.qmax)
    assert (layer.error(after, scale) <= layer.error(before, scale) * (1 + 1e-9)).all()


@given(SIZES, st.integers(2, 6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_fitting_the_scale_never_makes_it_worse(size: tuple[int, int, int, int], bits: int, shifts: bool) -> None:
    layer = replace(problem(*size, bits=bits), power_of_two=shifts)
    scale = layer.usable(largest(layer))
    values = nearest(layer, scale)
    found, fitted = rescale(layer, values, scale)
    assert np.abs(found).max() <= layer.qmax
    assert (layer.error(found, fitted) <= layer.error(values, scale)).all()
    np.testing.assert_allclose(layer.usable(fitted), fitted, rtol=1e-12)


def test_a_fitted_scale_gains_on_gptq() -> None:
    layer = problem(1, 8, 24, 3)
    scale = layer.usable(largest(layer))
    values = ROUNDINGS["gptq"](layer, scale)
    assert layer.error(*rescale(layer, values, scale)).sum() < 0.9 * layer.error(values, scale).sum()


def test_descent_over_blocks_ends_where_no_single_step_helps() -> None:
    layer = problem(1, 3, 150, 5)
    scale = largest(layer)
    targets = layer.targets / scale[:, :, None]
    values = descend(nearest(layer, scale), targets, layer.covariance, layer.qmax, sweeps=60)
    least = layer.error(values, scale)
    for column in range(150):
        for step in (-1, 1):
            other = values.copy()
            other[:, :, column] = np.clip(other[:, :, column] + step, -layer.qmax, layer.qmax)
            assert (layer.error(other, scale) >= least * (1 - 1e-9)).all()


def test_uncorrelated_inputs_leave_nothing_to_gain() -> None:
    """With H a multiple of the identity the nearest integers are best, and GPTQ finds them."""
    layer = problem(1, 5, 12, 3)
    identity = 2.0 * np.eye(12)[None]
    scale = largest(layer)
    found = gptq(layer.weights, scale, identity, layer.qmax)
    np.testing.assert_array_equal(found, nearest(layer, scale))
    learned = adaround(layer.weights / scale[:, :, None], identity, layer.qmax)
    np.testing.assert_array_equal(learned, nearest(layer, scale))


def test_a_dead_input_is_no_obstacle() -> None:
    covariance = np.zeros((1, 4, 4))
    covariance[0, :2, :2] = [[2.0, 1.9], [1.9, 2.0]]
    layer = problem(1, 3, 4, 1)
    values = gptq(layer.weights, largest(layer), damped(covariance), layer.qmax)
    np.testing.assert_array_equal(values[:, :, 2:], nearest(layer, largest(layer))[:, :, 2:])
    assert np.isfinite(gptq(layer.weights, largest(layer), damped(np.zeros((1, 4, 4))), layer.qmax)).all()


def test_scales_to_choose_from() -> None:
    layer = problem(2, 4, 40, 7)
    assert [c.shape for c in candidates(layer)] == [(2, 4)] * 2
    assert len(candidates(problem(2, 4, 40, 7, bits=8))) == 1
    top = largest(layer)
    np.testing.assert_allclose(top * layer.qmax, np.abs(layer.weights).max(axis=2))
    by_output, by_weight = clipped(layer, by_output=True), clipped(layer, by_output=False)
    assert (by_output <= top * (1 + 1e-12)).all()
    error = layer.error(nearest(layer, by_output), by_output)
    assert (error <= layer.error(nearest(layer, top), top) * (1 + 1e-12)).all()
    assert (error <= layer.error(nearest(layer, by_weight), by_weight) * (1 + 1e-12)).all()
    np.testing.assert_array_equal(candidates(layer, "output")[0], layer.usable(by_output))


def test_the_bias_takes_up_the_mean_effect() -> None:
    layer = problem(2, 3, 10, 4)
    scale = largest(layer)
    values = nearest(layer, scale)
    found = layer.finish(values, scale)
    assert found is not None
    step = layer.x_scale * found.scale
    shift = np.einsum("grk,gk->gr", values * scale[:, :, None] - layer.weights, layer.mean).reshape(-1)
    assert (np.abs(found.bias * step + shift - layer.bias) <= step / 2 * (1 + 1e-9)).all()


def test_no_weights_whose_sum_could_overflow() -> None:
    layer = problem(1, 2, 10, 4, bits=8)
    huge = Problem(**{**layer.__dict__, "x_extent": 2**30})
    assert huge.finish(nearest(huge, largest(huge)), largest(huge)) is None


def test_drift_of_the_input_is_made_up_for(tmp_path: Path) -> None:
    """If the integer network's input is half of what it should be, the target weights are twice the original ones."""
    graph = small_classifier(tmp_path)
    plan = prepare(graph, samples(graph), QuantizeOptions(promote=False)).plan
    (dense,) = [p for p in products(plan.topology) if p.layer.op == "MatMul"]
    moment = np.eye(8)[None] + 0.1
    halved = Problem.of(plan, dense, Gram(moment, np.zeros((1, 8)), 100, cross=2 * moment), 4)
    np.testing.assert_allclose(halved.targets, 2 * halved.weights, rtol=0.02, atol=0.01)
    same = Problem.of(plan, dense, Gram(moment, np.zeros((1, 8)), 100, cross=moment), 4)
    np.testing.assert_allclose(same.targets, same.weights, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
        ("Conv", (6, 2, 3, 2), {"group": 2, "dilations": [2, 1]}),
        ("Conv", (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
        ("ConvTranspose", (4, 3, 3, 2), {"strides": [2, 2], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
        ("ConvTranspose", (4, 3, 2, 2), {"group": 2, "strides": [2, 1], "dilations": [1, 2]}),
        ("ConvTranspose", (4, 3, 1, 1), {"pads": [1, 1, 0, 0]}),
    ],
)
def test_input_vectors_times_rows_are_the_layers_output(
    op: str, shape: tuple[int, ...], attributes: dict[str, object], tmp_path: Path
) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 4, 7, 8)
    y = m.node(op, [x, m.weights(*shape)], ["y"], **attributes)
    graph = m.graph(tmp_path, y)
    (product,) = products(prepare(graph, samples(graph), QuantizeOptions(promote=False)).plan.topology)
    array = m.random.standard_normal((1, 4, 7, 8)).astype(np.float32)
    expected = reference(product, array, op)
    vectors = input_vectors(product, array, 10**6)
    rows = product.rows.reshape(product.group, -1, vectors.shape[2])
    found = np.einsum("gpk,grk->grp", vectors, rows).reshape(expected.shape[1], -1)
    np.testing.assert_allclose(found, expected.reshape(expected.shape[1], -1), atol=1e-5)


def reference(product: Product, array: np.ndarray, op: str) -> np.ndarray:
    """The layer's output by ONNX Runtime."""
    node = product.layer.node
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    made = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("x", "w", "y")]
    graph = helper.make_graph([made], "one", infos[:2], infos[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (result,) = Session(model, ["y"]).run({"x": array, "w": product.weights.astype(np.float32)})
    return result


def test_positions_are_sampled_evenly(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    stem = products(prepare(graph, samples(graph), QuantizeOptions(promote=False)).plan.topology)[0]
    array = samples(graph, 1)["x"]
    few, every = input_vectors(stem, array, 12), input_vectors(stem, array, 144)
    np.testing.assert_array_equal(few, every[:, ::12])


def test_moments_are_those_of_the_integer_input(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    start = prepare(graph, samples(graph), QuantizeOptions(promote=False))
    feeds = list(start.data.feeds())
    (dense,) = [p for p in products(start.plan.topology) if p.layer.op == "MatMul"]
    found = moments(start.plan, feeds, [dense], with_float=True)[dense.layer.name]
    name = str(dense.layer.inputs[0].name)
    rows = np.concatenate([out[0].reshape(1, -1) for out in FakeQuantized(start.plan, [name]).run(feeds)])
    np.testing.assert_allclose(found.mean[0], rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.covariance[0], np.cov(rows.T, bias=True), atol=1e-6)
    assert found.rows == len(rows)
    assert found.cross is not None
    np.testing.assert_allclose(found.cross[0], found.covariance[0], atol=0.01)


def test_moments_about_a_far_mean(tmp_path: Path) -> None:
    """A spread of .1 around 3000 is lost in single precision unless the mean goes first."""
    m = ModelMaker()
    graph = m.graph(tmp_path, m.node("MatMul", [m.input("x", 1, 6), m.weights(6, 4)], ["y"]))
    random = np.random.default_rng(0)
    x = (3000 + 0.1 * random.standard_normal((40, 6))).astype(np.float32)
    start = prepare(graph, {"x": x}, QuantizeOptions(promote=False))
    layer = products(start.plan.topology)[0]
    sums = _Sums(layer, len(x))
    for row in x:
        sums.add(row[None])
    found = sums.result()
    np.testing.assert_allclose(found.covariance[0], np.cov(x.T.astype(np.float64), bias=True), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.mean[0], x.mean(axis=0, dtype=np.float64), rtol=1e-7)


def test_layers_in_order_of_depth(tmp_path: Path) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 8)
    a, b = m.node("MatMul", [x, m.weights(8, 8)], ["a"]), m.node("MatMul", [x, m.weights(8, 8)], ["b"])
    c = m.node("MatMul", [m.node("Add", [a, b]), m.weights(8, 8)], ["c"])
    graph = m.graph(tmp_path, m.node("MatMul", [c, m.weights(8, 4)], ["d"]))
    topology = prepare(graph, samples(graph), QuantizeOptions(promote=False)).plan.topology
    found = products(topology)
    names = [[p.layer.name for p in stage] for stage in stages(topology, found)]
    assert names == [["node_a", "node_b"], ["node_c"], ["node_d"]]
    assert [len(stage) for stage in stages(topology, found, most=2)] == [3, 1]


def test_rounding_in_order_helps_a_deep_network(tmp_path: Path) -> None:
    """Eight layers at 3 bits: each of them makes up for part of what those in front of it did."""
    graph = deep_network(tmp_path)
    start = prepare(graph, samples(graph, 200), QuantizeOptions(promote=False))
    feeds, layers = list(start.data.feeds()), products(start.plan.topology)
    names = [p.layer.name for p in layers]
    choices = dict.fromkeys(names, 3), dict.fromkeys(names, "gptq"), dict.fromkeys(names, None)
    plain = {p.layer.name: plain_weights(start.plan, p, 3) for p in layers}
    at_once = solve_all(start.plan, layers, moments(start.plan, feeds, layers), *choices)
    in_order = round_in_order(start.plan, feeds, *choices)

    def error(weights: Mapping[str, QuantizedWeights]) -> float:
        network = FakeQuantized(start.plan, [str(start.plan.topology.graph.outputs[0].name)])
        exact = [graph.run(feed) for feed in feeds]
        outputs = network.run(feeds, weights)
        return float(sum(((next(iter(e.values())) - o[0]) ** 2).sum() for e, o in zip(exact, outputs, strict=True)))

    assert error(in_order) < error(at_once) < error(plain)
