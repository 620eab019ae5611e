"""What each (layer, form) costs on the target: measured in whole networks, one for each form.

The network compiled with all layers in one form runs every layer's kernel as it will run later: same shapes, same
neighbours, same caches. Times (where the target's code runs here) come from the runtime's own step timer, the artifacts
in turns; instructions come from the emulator and are exact. A mixed network costs the sum of its layers: that this
holds is checked on the final artifact.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import RunError, ToolError
from edgeq.search.energy import BYTE, energy_table
from edgeq.search.milp import Table
from edgeq.search.problem import Problem, Progress
from edgeq.search.space import Assignment, Form, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder

ROUNDS = 15
BURST = 20


@dataclass
class Costs:
    """Cost of every layer in every form, and of what no choice changes.

    Attributes:
        tables: resource → layer → {form: amount}: latency in seconds, instructions, weights in bytes, bitops, energy
            in joules (a proxy, see `energy.py`).
        fixed: resource → amount of all steps without a choice.
        arena: bytes, the most of all forms.
        measured: "native", "emulated" (instructions only), or "modelled" (sizes only).
        notes: what could not be measured and why.
    """

    tables: dict[str, dict[str, dict[Form, float]]]
    fixed: dict[str, float]
    arena: int
    measured: str
    notes: list[str] = field(default_factory=list)

    def total(self, resource: str, assignment: Assignment) -> float:
        """Predicted amount of a mixed network."""
        table: Table = self.tables[resource]
        return self.fixed[resource] + sum(table[name][form] for name, form in assignment.items())


@dataclass(frozen=True)
class _Sample:
    """One uniform network: per step its layer and kernel, per resource the amount of every step."""

    form: Form
    names: list[str]
    kernels: list[str]
    weights: list[float]
    path: Path


def measure(
    problem: Problem, space: Space, store: Store, builder: KernelBuilder, progress: Progress | None = None
) -> Costs:
    """Measure the space's costs on the problem's target.

    Args:
        problem, space: what to measure. store: what was measured before is taken from it.
        builder: code generators.

    Raises:
        CompileError, ToolError: the network can't be compiled for the target.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-costs-") as folder:
        samples, arena = [], 0
        for done, form in enumerate(space.forms, start=1):
            path = Path(folder) / f"w{form}.edgeq"
            compiled = problem.artifact(space.uniform(*form), problem.target, path, builder)
            samples.append(_sample(form, compiled, path))
            arena = max(arena, compiled.image.arena_size)
            if progress:
                progress("networks", done, len(space.forms))
        amounts: dict[str, list[list[float]]] = {"weights": [s.weights for s in samples]}
        measured, notes = "modelled", []
        if problem.target.runs_here():
            amounts["latency"] = _times(samples, store, problem, progress)
            measured = "native"
        instructions, why = _instructions(samples, store, problem)
        if instructions is not None:
            amounts["instructions"] = instructions
            measured = "emulated" if measured == "modelled" else measured
        elif why:
            notes.append(f"instructions not counted: {why}")
    tables, fixed = {}, {}
    for resource, rows in amounts.items():
        tables[resource], fixed[resource] = _by_layer(space, samples, rows)
    tables["bitops"] = {
        layer.name: {form: float(layer.macs * form.bits * 8) for form in layer.forms} for layer in space.layers
    }
    fixed["bitops"] = 0.0
    tables["energy"], fixed["energy"] = energy_table(space, tables["weights"]), fixed["weights"] * BYTE
    return Costs(tables, fixed, arena, measured, notes)


def _sample(form: Form, compiled: Compiled, path: Path) -> _Sample:
    layers: list[dict[str, Any]] = compiled.layers
    return _Sample(
        form,
        [layer["name"] for layer in layers],
        [layer["kernel"] for layer in layers],
        [float(layer["weights"]) for layer in layers],
        path,
    )


def _times(samples: Sequence[_Sample], store: Store, problem: Problem, progress: Progress | None) -> list[list[float]]:
    """Seconds of each step of each network, and last what a run takes besides: medians over rounds in turns."""
    keys = [_key("latency", problem, sample) for sample in samples]
    known = [store.get("latency", key) for key in keys]
    if all(value is not None for value in known):
        return [[float(v) for v in value] for value in known if value is not None]
    from edgeq import runtime

    models = [runtime.load(sample.path, emulate=False) for sample in samples]
    rounds: list[list[list[float]]] = [[] for _ in samples]
    for done in range(1, ROUNDS + 1):
        for index, model in enumerate(models):
            found = model.profile(repeats=BURST)
            steps = [step.min_ns * 1e-9 for step in found.steps]
            rounds[index].append([*steps, max(0.0, found.total_min_ns * 1e-9 - sum(steps))])
        if progress:
            progress("timing", done, ROUNDS)
    amounts = _same_kernels(samples, [np.median(np.array(part), axis=0).tolist() for part in rounds])
    for key, value in zip(keys, amounts, strict=True):
        store.put("latency", key, value)
    return amounts


def _same_kernels(samples: Sequence[_Sample], rows: list[list[float]]) -> list[list[float]]:
    """Forms with the same kernel at the same place take the same time: their mean, so that noise chooses nothing."""
    places: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for network, sample in enumerate(samples):
        seen: Counter[tuple[str, str]] = Counter()
        for step, pair in enumerate(zip(sample.names, sample.kernels, strict=True)):
            places.setdefault((*pair, seen[pair]), []).append((network, step))
            seen[pair] += 1
    for group in places.values():
        mean = float(np.mean([rows[network][step] for network, step in group]))
        for network, step in group:
            rows[network][step] = mean
    return rows


def _instructions(samples: Sequence[_Sample], store: Store, problem: Problem) -> tuple[list[list[float]] | None, str]:
    """Instructions of each step of each network, or why they can't be counted."""
    from edgeq.evaluate.instructions import count_instructions

    emulator = problem.target.spec.toolchain.emulator
    if not emulator or not shutil.which(emulator):
        return None, f"no emulator for {problem.target.name} is installed"
    found = []
    for sample in samples:
        key = _key("instructions", problem, sample)
        value = store.get("instructions", key)
        if value is None:
            try:
                value = count_instructions(sample.path).steps
            except (RunError, ToolError) as error:
                return None, (error.why or error.what).splitlines()[0]
            store.put("instructions", key, value)
        found.append([float(v) for v in value])
    return found, ""


def _key(resource: str, problem: Problem, sample: _Sample) -> str:
    """Names a measurement: kernels say shapes and code, the machine says the rest."""
    import platform

    from edgeq.cache import content_key

    where = platform.processor() + _cpu_model() if resource == "latency" else ""
    return content_key([resource, "2", problem.target.name, where, *sample.kernels, *sample.names])


def _cpu_model() -> str:
    """Name of this machine's processor: times of another one mean nothing here."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return ""
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _by_layer(
    space: Space, samples: Sequence[_Sample], rows: Sequence[Sequence[float]]
) -> tuple[dict[str, dict[Form, float]], float]:
    """Sums of steps by layer and form, and what belongs to no layer (mean over the networks)."""
    known = {layer.name for layer in space.layers}
    sums = [dict.fromkeys(known, 0.0) for _ in samples]
    rest = []
    for index, (sample, row) in enumerate(zip(samples, rows, strict=True)):
        other = 0.0
        for name, amount in zip([*sample.names, ""], row, strict=False):  # times have one more: between the steps
            if name in known:
                sums[index][name] += amount
            else:
                other += amount
        rest.append(other)
    position = {sample.form: index for index, sample in enumerate(samples)}
    table = {layer.name: {form: sums[position[form]][layer.name] for form in layer.forms} for layer in space.layers}
    return table, float(np.mean(rest))
