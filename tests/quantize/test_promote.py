from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.quantize import QuantizeOptions, prepare, quantize
from edgeq.quantize.error.simulate import normalised_error
from edgeq.quantize.products import products, read_quant
from edgeq.quantize.promote import Promotion, _Search, _with_sets
from edgeq.quantize.weak import weak_sets
from tests.quantize.models import ModelMaker, samples


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.001, 2))
@settings(max_examples=60, deadline=None)
def test_search_finds_the_worst_when_errors_add(errors: list[float], budget: float) -> None:
    tensors = {f"t{i}": error for i, error in enumerate(errors)}
    found = _Search(lambda active: sum(tensors[name] for name in active), budget).run(list(tensors))
    left = [name for name in tensors if name not in found.groups]
    assert sum(tensors[name] for name in left) <= budget + 1e-9
    assert list(found.groups.values()) == sorted(found.groups.values(), reverse=True)
    if found.groups and left:
        # Nothing that was left is worse than what was promoted.
        assert max(tensors[name] for name in left) <= min(found.groups.values()) + 1e-12


def test_a_harmless_network_costs_one_measurement() -> None:
    calls: list[Sequence[str]] = []

    def measure(active: Sequence[str]) -> float:
        calls.append(active)
        return 0.001

    found = _Search(measure, 0.01).run([f"t{i}" for i in range(200)])
    assert (len(calls), found.groups) == (1, {})


def test_a_dominant_input_is_promoted_within_the_budget() -> None:
    errors = {f"t{i}": 0.0001 for i in range(20)} | {"bad": 0.004}

    def search(inputs: list[str], scale: float = 1.0) -> Promotion:
        return _Search(lambda active: scale * sum(errors[name] for name in active), 0.01, inputs).run(list(errors))

    found = search(["t0", "bad"])
    assert list(found.groups) == ["bad"]
    assert found.after == pytest.approx(0.002)
    assert search(["t0"]).groups == {}
    assert search(["bad"], 0.1).groups == {}


def test_a_hopeless_network_ends() -> None:
    found = _Search(lambda active: 1.0 if active else 0.0, 0.01).run([f"t{i}" for i in range(5)])
    assert len(found.groups) == 5
    assert found.after == 0


def test_normalised_error() -> None:
    reference = [np.array([1.0, -1.0]), np.array([1.0, -1.0])]
    assert normalised_error(reference, reference) == 0
    assert normalised_error(reference, [r + 0.1 for r in reference]) == pytest.approx(0.01)
    flat = [np.ones(3)]
    assert normalised_error(flat, flat) == 0
    assert normalised_error(flat, [np.zeros(3)]) == float("inf")


def outlier_model(folder: Path) -> tuple[object, dict[str, np.ndarray]]:
    """A channel 3000 times larger than the rest goes through a tensor; only the rest matters in the end."""
    m = ModelMaker()
    x = m.input("x", 1, 4, 6, 6)
    gains = np.diag([1, 1, 1, 3000]).astype(np.float32).reshape(4, 4, 1, 1)
    wide = m.node("Conv", [x, m.constant(gains)], ["wide"])
    undo = np.diag([1, 1, 1, 1 / 3000]).astype(np.float32).reshape(4, 4, 1, 1)
    back = m.node("Conv", [wide, m.constant(undo)], ["back"])
    graph = m.graph(folder, m.node("Relu", [back], ["out"]))
    return graph, samples(graph)


def test_outliers_are_promoted(tmp_path: Path) -> None:
    graph, data = outlier_model(tmp_path)
    plain = quantize(graph, data, QuantizeOptions(promote=False)).report  # type: ignore[arg-type]
    found = quantize(graph, data).report  # type: ignore[arg-type]
    assert plain.promoted == {}
    assert list(found.promoted) == ["wide"]
    assert found.outputs[0].sqnr_db > plain.outputs[0].sqnr_db + 10
    before, after, budget = found.promotion_error
    assert before > budget >= after
    assert {layer.output: layer.reason for layer in found.layers}["wide"] == "promoted"


def test_what_the_policy_decides_is_not_promoted(tmp_path: Path) -> None:
    from edgeq.quantize import Policy

    graph, data = outlier_model(tmp_path)
    policy = Policy.parse("layers: {wide: {activation: s8}}")
    found = quantize(graph, data, QuantizeOptions(policy=policy)).report  # type: ignore[arg-type]
    assert "wide" not in found.promoted


def test_random_data_promotes_nothing(tmp_path: Path) -> None:
    graph, _ = outlier_model(tmp_path)
    assert quantize(graph).report.promoted == {}  # type: ignore[arg-type]


def test_too_small_a_budget_warns(tmp_path: Path) -> None:
    graph, data = outlier_model(tmp_path)
    from edgeq.quantize import Policy

    policy = Policy.parse("layers: {wide: {activation: s8}}")
    options = QuantizeOptions(policy=policy, promotion_budget=1e-12)
    report = quantize(graph, data, options).report  # type: ignore[arg-type]
    assert report.promotion_error[1] <= 1e-12
    assert report.warnings == []


def bottleneck_model(folder: Path) -> tuple[object, dict[str, np.ndarray]]:
    """Stem, depthwise, and a sum of two linear products that a further product reads."""
    m, random = ModelMaker(), np.random.default_rng(3)
    x = m.input("x", 1, 3, 6, 6)

    def conv(source: str, name: str, outputs: int, inputs: int, **attributes: object) -> str:
        weights = random.normal(0, 0.5, (outputs, inputs, 1, 1)).astype(np.float32)
        return str(m.node("Conv", [source, m.constant(weights)], [name], **attributes))

    stem = m.node("Relu", [conv(x, "stem.sum", 8, 3)], ["stem"])
    deep = conv(stem, "deep", 8, 1, group=8)
    low = conv(deep, "low", 4, 8)
    added = m.node("Add", [conv(low, "block", 4, 4), low], ["added"])
    graph = m.graph(folder, conv(added, "out", 5, 4))
    return graph, samples(graph)


def test_sets_are_stems_and_what_sums_read(tmp_path: Path) -> None:
    graph, data = bottleneck_model(tmp_path)
    plan = prepare(graph, data, QuantizeOptions()).plan  # type: ignore[arg-type]
    names = {
        name: {m for group in groups for m in plan.candidates()[group]} for name, groups in weak_sets(plan).items()
    }
    assert names == {"stem": {"stem"}, "sums": {"low", "block"}}


def test_products_read_int8_of_what_sums_read_in_16_bits(tmp_path: Path) -> None:
    graph, data = bottleneck_model(tmp_path)
    # So small a budget that what remains is above it whatever single tensors are promoted: all of them are.
    result = quantize(graph, data, QuantizeOptions(promotion_budget=1e-12, compare_samples=1))  # type: ignore[arg-type]
    assert result.graph.quant("low").dtype == np.int16
    ops = [node.op_type for node in result.graph.model.graph]
    assert (ops.count("ConvS16"), ops.count("Conv")) == (4, 1)
    plan = prepare(graph, data, QuantizeOptions(promotion_budget=1e-12)).plan  # type: ignore[arg-type]
    read = {product.layer.node.outputs[0].name: read_quant(plan, product).dtype for product in products(plan.topology)}
    assert read["block"] == np.int8
    assert read["out"] == np.int16


def test_a_set_must_save_enough_of_an_error_that_matters() -> None:
    errors = {f"t{i}": 0.0005 for i in range(10)}

    def tried(sets: dict[str, list[str]], scale: float = 1.0) -> Promotion:
        def measure(active: Sequence[str]) -> float:
            return scale * sum(errors[name] for name in active)

        start = Promotion({}, measure(list(errors)), measure(list(errors)), 0.01, 1)
        return _with_sets(start, list(errors), sets, measure)

    found = tried({"stem": ["t0"], "sums": ["t1", "t2"]})
    assert list(found.groups) == ["t1", "t2"]
    assert found.after == pytest.approx(0.004)
    assert sum(found.groups.values()) == pytest.approx(0.001)
    assert tried({"sums": ["t1", "t2"]}, 0.5).groups == {}
    assert tried({"sums": []}).measurements == 1
