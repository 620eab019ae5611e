"""Learning all narrow weights together: less error, the same result every time, nothing where torch is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from edgeq.errors import ToolError
from edgeq.frontend import FloatGraph
from edgeq.integer import prove
from edgeq.quantize import LayerPolicy, Policy, QuantizeOptions, prepare, quantize
from edgeq.quantize import recipe as recipes
from edgeq.quantize.error.judge import Judge, split
from edgeq.quantize.integerize import build
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.pipeline import Prepared
from edgeq.quantize.products import plain_weights, products
from edgeq.quantize.rounding.distill import Schedule, _Order, distill
from tests.quantize.models import deep_network, samples, small_classifier

NARROW = QuantizeOptions(policy=Policy(defaults=LayerPolicy(weight_bits=4)))


def start(graph: FloatGraph) -> Prepared:
    """4-bit weights, rounded to nearest."""
    return prepare(graph, samples(graph, 48), NARROW)


def learned(prepared: Prepared, threads: int = 2, **schedule: float) -> dict[str, QuantizedWeights]:
    """Weights of all layers."""
    fit, _ = split(prepared.data)
    found = Schedule(**{"steps": 60, "rate": 0.01, **schedule})
    return distill(prepared.plan, fit, products(prepared.plan.topology), found, threads)


def test_it_beats_rounding_to_nearest_on_samples_it_has_not_seen(tmp_path: Path) -> None:
    prepared = start(deep_network(tmp_path))
    judge = Judge(prepared.plan.topology, split(prepared.data)[1])
    weights = learned(prepared)
    assert judge.trial(prepared.plan)(weights) < 0.8 * judge.error(prepared.plan)
    for product in products(prepared.plan.topology):
        found = weights[product.layer.name]
        assert np.abs(found.values).max() <= 7
        assert (found.scale > 0).all()
    prove(build(prepared.plan.with_weights(weights)).graph)


def test_the_result_does_not_depend_on_threads(tmp_path: Path) -> None:
    prepared = start(small_classifier(tmp_path))
    one, many = (learned(prepared, threads, steps=10) for threads in (1, 4))
    for name, weights in one.items():
        assert np.array_equal(weights.values, many[name].values)
        assert np.array_equal(weights.scale, many[name].scale)
        assert np.array_equal(weights.bias, many[name].bias)


def test_without_a_step_nothing_changes(tmp_path: Path) -> None:
    prepared = start(small_classifier(tmp_path))
    for product in products(prepared.plan.topology):
        found = learned(prepared, steps=0)[product.layer.name]
        plain = plain_weights(prepared.plan, product)
        assert np.array_equal(found.values, plain.values)
        assert np.allclose(found.scale, plain.scale)


def test_layers_to_keep_are_chosen_before_the_rest_learns(tmp_path: Path) -> None:
    graph = deep_network(tmp_path)
    options = QuantizeOptions(policy=NARROW.policy, steps=("gptq", "distill"), weight_budget=0.005)
    report = quantize(graph, samples(graph, 48), options).report
    assert [step.name for step in report.steps if step.name != "integer graph"] == ["gptq", "keep", "distill"]
    bits = {layer.weight_bits for layer in report.layers if layer.weight_bits}
    assert bits == {4, 8}


def test_pictures_are_varied_and_nothing_else() -> None:
    order, random = _Order(4, seed=0), np.random.default_rng(0)
    feeds = {"image": random.random((1, 3, 32, 48), np.float32), "other": random.random((1, 5), np.float32)}
    found = [order.varied(feeds, {"image"}) for _ in range(8)]
    assert all(varied["other"] is feeds["other"] for varied in found)
    assert all(varied["image"].shape == (1, 3, 32, 48) for varied in found)
    assert any(not np.array_equal(varied["image"], feeds["image"]) for varied in found)
    assert all(np.isin(varied["image"], feeds["image"]).all() for varied in found)
    taken = order.take(8)
    assert sorted(taken[:4]) == sorted(taken[4:]) == [0, 1, 2, 3]


def test_eight_bits_are_left_alone(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    (step,) = quantize(graph, samples(graph, 16), QuantizeOptions(steps=("distill",))).report.steps
    assert (step.kept, step.before, step.note) == (False, step.after, "")


def test_a_recipe_goes_on_without_torch_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "best", ("distill",))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    graph = small_classifier(tmp_path)
    options = QuantizeOptions(policy=NARROW.policy, recipe="best")
    report = quantize(graph, samples(graph, 16), options).report
    (step,) = report.steps
    assert not step.kept
    assert "torch is not installed" in step.note
    assert any("distill was left out" in warning for warning in report.warnings)
    with pytest.raises(ToolError, match=r"pip install 'edgeq\[qat\]'"):
        quantize(graph, samples(graph, 16), QuantizeOptions(steps=("distill",)))
