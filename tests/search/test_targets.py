"""Another target: what is known is reused, several processors count as their worst, guesses say their error."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from edgeq.compiler import KernelBuilder
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.search.costs import estimate
from edgeq.search.costs.cost import Costs, measure, worst_of
from edgeq.search.costs.networks import Network, Step, compile_network, plan_network
from edgeq.search.limits import Limits
from edgeq.search.problem import Problem, load_problem
from edgeq.search.run import find_policy
from edgeq.search.space import Form, find_space
from edgeq.search.store import Store


def load(digits: Path, target: str) -> Problem:
    return load_problem(
        digits / "digits.onnx", digits / "calib.npz", target, evaluation=digits / "eval.npz", calib_samples=32
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("search") / "facts.sqlite")


def test_second_target_asks_little(digits: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"objective": "bitops", "widths": (8, 4, 2), "store": store, "kinds": ("weights",)}
    first = find_policy(load(digits, "x86-avx2"), Limits(drop=1.0), **settings)  # type: ignore[arg-type]
    sensitivities = importlib.import_module("edgeq.quantize.error.sensitivity")
    monkeypatch.setattr(sensitivities, "sensitivity", lambda *a, **k: pytest.fail("measured again"))
    second = find_policy(load(digits, "x86-sse4"), Limits(drop=1.0), **settings)  # type: ignore[arg-type]
    assert {tuple(each.forms.values()) for each in first.seen} <= {tuple(each.forms.values()) for each in second.seen}
    assert second.judged[1] <= first.judged[1] / 2
    assert second.best.accuracy >= first.reference - 0.01
    again = find_policy(load(digits, "x86-avx2"), Limits(drop=1.0), **settings)  # type: ignore[arg-type]
    assert again.best == first.best


def test_predicted_costs_compile_nothing(digits: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = load(digits, "x86-avx2")
    space = find_space(problem.prepared.plan, (8, 4))
    with KernelBuilder() as builder:
        found = measure(problem, space, store, builder)
        monkeypatch.setattr("edgeq.compiler.compile_graph", lambda *a, **k: pytest.fail("compiled"))
        known = measure(problem, space, store, builder, source="predicted")
        narrower = measure(problem, find_space(problem.prepared.plan, (8, 6)), store, builder, source="predicted")
    for layer in space.places:
        for form in layer.forms:
            assert known.tables["latency"][layer.name][form] == pytest.approx(
                found.tables["latency"][layer.name][form], rel=0.5
            )
    assert known.tables["weights"] == found.tables["weights"]
    assert known.measured == "predicted"
    assert any("of kernels that were measured before" in note for note in known.notes)
    assert any("guessed, error" in note for note in narrower.notes)
    with pytest.raises(UsageError, match="unknown source of costs"):
        measure(problem, space, store, builder, source="rumour")


def test_without_facts_the_table_speaks_or_nothing(digits: Path, tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty.sqlite")
    for target, expected in (("arm-neon", "the target's table of costs"), ("x86-avxvnni", "nothing is known")):
        problem = load(digits, target)
        with KernelBuilder() as builder:
            costs = measure(problem, find_space(problem.prepared.plan, (8, 4)), empty, builder, source="predicted")
        assert any(expected in note for note in costs.notes), costs.notes


def test_regression_states_its_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def step(number: int) -> Step:
        macs = int(generator.integers(1e4, 1e7))
        return Step("l", f"k{number}", "conv", macs, int(generator.integers(1e3, 1e6)), 0, 8, macs / 100)

    def truth(each: Step) -> float:
        return 3.0 * each.macs**0.9 * each.touched**0.1

    store, target = Store(tmp_path / "facts.sqlite"), load_target("x86-sse4")
    known = Network(Form(8), [step(i) for i in range(40)], 0)
    noisy = [truth(each) * float(np.exp(generator.normal(0, 0.1))) for each in known.steps]
    estimate.remember(store, "steps", [known], [noisy])
    fresh = Network(Form(8), [*(step(100 + i) for i in range(40)), known.steps[0]], 0)
    found = estimate.guess(store, "steps", target, [fresh])
    assert found is not None
    assert found.rows[0][-1] == noisy[0]
    off = np.abs(np.array(found.rows[0][:-1]) / [truth(each) for each in fresh.steps[:-1]] - 1)
    assert found.error is not None
    assert 0.03 < found.error < 0.15
    assert np.median(off) < 0.1
    assert (found.guessed, found.kernels) == (40, 41)


def test_several_processors_cost_what_the_worst_takes(digits: Path) -> None:
    problem = load(digits, "arm")
    assert [target.name for target in problem.targets] == ["arm-i8mm", "arm-dotprod", "arm-neon"]
    assert problem.name == "arm"
    a, b = Form(8), Form(4)
    weights = {"l": {a: 1.0, b: 1.0}}
    tables = {"latency": {"l": {a: 3.0, b: 1.0}}, "weights": weights}
    one = Costs(tables, {"latency": 1.0, "weights": 0.0}, 5, "native")
    two = Costs({"latency": {"l": {a: 2.0, b: 2.0}}}, {"latency": 4.0}, 9, "emulated", ["slow"])
    worst = worst_of({"one": one, "two": two})
    assert worst.tables == {"latency": {"l": {a: 3.0, b: 2.0}}}
    assert worst.fixed == {"latency": 4.0}
    assert (worst.arena, worst.measured) == (9, "emulated")
    assert "two: slow" in worst.notes
    assert worst_of({"one": one}) is one


def test_planning_chooses_the_kernels_that_compiling_does(digits: Path, tmp_path: Path) -> None:
    problem = load(digits, "x86-avx2")
    graph = problem.integerize(find_space(problem.prepared.plan, (8, 4)).uniform(4))
    planned = plan_network(graph, Form(4), problem.target)
    with KernelBuilder() as builder:
        compiled = compile_network(graph, Form(4), problem.target, tmp_path, builder)
    assert planned.steps == compiled.steps
    assert planned.arena == compiled.arena
