"""What a search returns, made as `edgeq compile --policy` makes it: its accuracy, and its speed beside 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.cache import cached_file
from edgeq.search.problem import Problem, write_artifact
from edgeq.search.space import Assignment

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.integer import IntegerGraph
    from edgeq.runtime import Model

ROUNDS, BURST = 15, 20
FOLDER = "searched"


@dataclass(frozen=True)
class Measured:
    """Figures of final artifacts.

    Attributes:
        latency, uniform_latency: seconds of a run, in turns with each other; None where the target doesn't run here.
        weights, uniform_weights: bytes in the artifact, biases, multipliers and tables included.
        file, uniform_file: bytes of the artifact. arena: bytes of activations and scratch.
    """

    latency: float | None
    uniform_latency: float | None
    weights: int
    uniform_weights: int
    file: int
    uniform_file: int
    arena: int = 0

    def amounts(self) -> dict[str, float]:
        """What limits speak of, as far as it was measured."""
        found: dict[str, float] = {"weights": self.weights, "arena": self.arena}
        return found if self.latency is None else {**found, "latency": self.latency}


def final_graph(problem: Problem, forms: Assignment) -> IntegerGraph:
    """The integer graph of a policy with the problem's recipe: weights fitted to the mixed network's own inputs."""
    from edgeq.quantize.integerize import build
    from edgeq.quantize.pipeline import again_with
    from edgeq.quantize.plan import Plan
    from edgeq.quantize.recipe import refine

    plan, policy = problem.prepared.plan, problem.policy_of(forms)
    mixed = Plan(plan.topology, plan.ranges, policy, plan.promoted)
    again = again_with(problem.prepared.data, replace(problem.options, policy=policy, progress=None))
    refined, _ = refine(replace(problem.prepared, plan=mixed), problem.steps, prepare=again)
    return build(refined.plan).graph


def stored_graph(key: str, make: Callable[[], IntegerGraph]) -> IntegerGraph:
    """The graph of a policy from the cache, or made and put there: another target needs the same one."""
    from edgeq.integer import IntegerGraph

    return IntegerGraph.load(cached_file(FOLDER, "graph.onnx", key, lambda path: make().save(path)))


def final_accuracy(problem: Problem, graph: IntegerGraph, builder: KernelBuilder, threads: int) -> float:
    """The judge's value, through kernels compiled for this machine."""
    from edgeq.compiler.target import load_target

    with tempfile.TemporaryDirectory(prefix="edgeq-final-") as folder:
        path = Path(folder) / "model.edgeq"
        write_artifact(graph, load_target("host"), path, builder)
        return problem.judge.score(path, threads)


def measure_final(
    problem: Problem, graph: IntegerGraph, uniform: IntegerGraph, target: Target, builder: KernelBuilder
) -> Measured:
    """Compile both graphs for a target and compare them."""
    from edgeq import runtime

    with tempfile.TemporaryDirectory(prefix="edgeq-final-") as folder:
        paths = [Path(folder) / name for name in ("mixed.edgeq", "uniform.edgeq")]
        compiled = [write_artifact(g, target, path, builder) for g, path in zip((graph, uniform), paths, strict=True)]
        times: list[float] | list[None] = [None, None]
        if target.runs_here():
            times = in_turns([runtime.load(path, emulate=False) for path in paths])
        weights = [sum(int(layer["weights"]) for layer in each.layers) for each in compiled]
        files = [path.stat().st_size for path in paths]
    return Measured(times[0], times[1], weights[0], weights[1], files[0], files[1], compiled[0].image.arena_size)


def in_turns(models: list[Model]) -> list[float]:
    """Seconds of a run of each: the least of a burst, the median over rounds in which all take turns."""
    found: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for index, model in enumerate(models):
            found[index].append(float(model.measure(repeats=BURST).min()) * 1e-9)
    return [float(np.median(part)) for part in found]
