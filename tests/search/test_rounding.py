"""Integers of a layer: solved once, found in the cache again, those a model brings along left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.quantize.products import products
from edgeq.quantize.rounding import solve as solver
from edgeq.search import rounding
from edgeq.search.problem import Problem, load_problem
from edgeq.search.rounding import Rounder


@pytest.fixture(scope="module")
def problem(digits: Path) -> Problem:
    return load_problem(
        digits / "digits.onnx", digits / "calib.npz", "x86-avx2", evaluation=digits / "eval.npz", calib_samples=32
    )


def test_solved_once(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    plan, data = problem.prepared.plan, problem.prepared.data
    wanted = [(product, bits) for product in products(plan.topology) for bits in (8, 3)]
    stages: list[tuple[str, int, int]] = []
    Rounder(plan, data, "k").solve_all(wanted, lambda *stage: stages.append(stage))
    assert stages[-1] == ("rounding", len(wanted), len(wanted))
    monkeypatch.setattr(rounding, "solve", lambda *given: pytest.fail("solved again"))
    again = Rounder(plan, data, "k")
    for product, bits in wanted:
        found = again(plan, product, bits)
        assert np.abs(found.values).max() <= 2 ** (bits - 1) - 1
        assert found.values.shape == product.rows.shape
    with pytest.raises(pytest.fail.Exception, match="solved again"):
        Rounder(plan, data, "other data")(plan, *wanted[0])


def test_better_than_nearest_on_the_layers_own_inputs(problem: Problem) -> None:
    from edgeq.quantize.error.judge import split
    from edgeq.quantize.rounding.sequential import moments

    plan, data = problem.prepared.plan, problem.prepared.data
    product = products(plan.topology)[1]
    gram = moments(plan, split(data)[0], [product])[product.layer.name]
    nearest = solver.solve(plan, product, gram, 3, "nearest", None)
    chosen = problem.rounder(plan, product, 3)
    task = solver.Problem.of(plan, product, gram, 3)

    def error(weights: object) -> float:
        values, scale = weights.values, weights.scale  # type: ignore[attr-defined]
        shape = task.targets.shape
        return float(task.error(values.astype(float).reshape(shape), scale.reshape(shape[:2])).sum())

    assert error(chosen) < error(nearest)
