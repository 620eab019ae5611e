"""Judging side by side gives what judging here gives, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgeq.errors import ToolError, UsageError
from edgeq.search.evaluate import Workers
from edgeq.search.problem import Problem, load_problem
from edgeq.search.searcher import judge_assignment
from edgeq.search.space import Form, find_space


@pytest.fixture(scope="module")
def problem(digits: Path) -> Problem:
    return load_problem(
        digits / "digits.onnx", digits / "calib.npz", "x86-avx2", evaluation=digits / "eval.npz", calib_samples=32
    )


@pytest.fixture(scope="module")
def policies(problem: Problem) -> list[dict[str, Form]]:
    space = find_space(problem.prepared.plan)
    one = [{**space.uniform(8), layer.name: Form(2)} for layer in space.free]
    return [space.uniform(8), *one]


@pytest.fixture(scope="module")
def expected(problem: Problem, policies: list[dict[str, Form]]) -> dict[int, float]:
    from edgeq.compiler import KernelBuilder

    with KernelBuilder() as builder:
        return {i: judge_assignment(problem, forms, builder, 1) for i, forms in enumerate(policies)}


def test_processes(problem: Problem, policies: list[dict[str, Form]], expected: dict[int, float]) -> None:
    with Workers(problem.judge, jobs=2) as workers:
        assert dict(workers.scores([problem.integerize(forms) for forms in policies])) == expected


def test_cluster_loses_a_worker(problem: Problem, policies: list[dict[str, Form]], expected: dict[int, float]) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        with Workers(problem.judge, scheduler=cluster.scheduler_address) as workers:
            found = {}
            for index, value in workers.scores([problem.integerize(forms) for forms in policies]):
                found[index] = value
                if len(found) == 1:
                    os.kill(victim, signal.SIGKILL)
        assert found == expected


def test_no_scheduler(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.search.evaluate.CONNECT_SECONDS", 1)
    with pytest.raises(ToolError, match="doesn't answer") as caught:
        Workers(problem.judge, scheduler="tcp://127.0.0.1:1")
    assert "dask scheduler" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no scheduler's address"):
        Workers(problem.judge, scheduler="what://is this")
