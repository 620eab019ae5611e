"""Second-order sensitivities: exact for a linear network, positive, and in agreement with running the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeq import qat
from edgeq.errors import UsageError
from edgeq.qat.curvature import second_order, traces
from edgeq.search.harm import sensitivities
from edgeq.search.problem import load_problem
from edgeq.search.space import find_space
from edgeq.search.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")


def test_trace_of_a_linear_network() -> None:
    """KL of softmax(W x): the Hessian in W is (diag p − p pᵀ) ⊗ x xᵀ, its trace (1 − Σ p²) · ‖x‖²."""
    torch.manual_seed(0)
    net = nn.Linear(6, 4)
    module = qat.prepare(net.eval(), torch.randn(32, 6))
    samples = [np.random.default_rng(i).normal(size=(1, 6)).astype(np.float32) for i in range(3)]
    name = module.topology.graph.inputs[0].name
    found = traces(module.plan, [{str(name): x} for x in samples], probes=2000)
    expected = []
    for x in samples:
        chances = torch.softmax(net(torch.from_numpy(x)), 1).detach().numpy()
        expected.append(float((1 - np.sum(chances**2)) * np.sum(x**2)))
    assert list(found.values()) == [pytest.approx(np.mean(expected), rel=0.1)]


def test_agrees_with_running_the_network(digits: Path, tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    problem = load_problem(
        digits / "digits.onnx", digits / "calib.npz", "x86-avx2", evaluation=digits / "eval.npz", calib_samples=48
    )
    space, store = find_space(problem.prepared.plan, (8, 4, 2), 2), Store(tmp_path / "facts.sqlite")
    run = sensitivities(problem, space, store)
    curved = sensitivities(problem, space, store, measure="hessian")
    pairs = [(row[f], curved[n][f]) for n, row in run.items() for f in row if f.bits < 8 and not f.packed]
    assert spearmanr(*zip(*pairs, strict=True)).statistic > 0.8
    assert all(value >= 0 for _, value in pairs)
    assert sensitivities(problem, space, store, measure="hessian") == curved
    with pytest.raises(UsageError, match="unknown measure"):
        sensitivities(problem, space, store, measure="guess")
    feeds = list(problem.prepared.data.feeds(4))
    name = space.weighted[0].name
    again = second_order(problem.prepared.plan, feeds, (4,), layers=[name], rounding=problem.rounder)
    assert again == second_order(problem.prepared.plan, feeds, (4,), layers=[name], rounding=problem.rounder)
