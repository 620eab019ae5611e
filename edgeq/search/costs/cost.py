"""What each layer costs on the target in every form it may have.

The network is compiled once for each form with every layer in that form; each layer runs the kernel it would run in a
mixed network, with its real shapes and neighbours. Bytes come from the artifact, times from the runtime's own step
timer (all networks in turns, so that a busy machine disturbs them alike), instructions from the emulator or an emulated
board: exact and the same in every run. Without compiling, `predicted` costs come from kernels measured before.

A target that stands for several processors costs what the one takes that takes most, layer by layer: no variant
exceeds what is predicted.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.errors import UsageError
from edgeq.search.costs import estimate
from edgeq.search.costs.counting import count
from edgeq.search.costs.energy import BYTE, energy_table
from edgeq.search.costs.networks import Network, compile_network, plan_network
from edgeq.search.problem import Problem, Progress
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Assignment, Form, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.compiler.target import Target

ROUNDS = 15
BURST = 20
#: Where costs come from.
SOURCES = ("measured", "predicted")
Rows = Sequence[Sequence[float]]


@dataclass
class Costs:
    """Cost of every layer in every form, and of what no choice changes.

    Attributes:
        tables: resource → layer → {form: amount}: latency in seconds, instructions, weights in bytes, bitops, energy
            in joules (a proxy, see `energy.py`).
        fixed: resource → amount of all steps without a choice.
        arena: bytes, the most of all forms.
        measured: "native", "emulated" (instructions only), "predicted", or "modelled" (sizes only).
        notes: what could not be measured and why, and how far guesses are off.
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


def measure(
    problem: Problem,
    space: Space,
    store: Store,
    builder: KernelBuilder,
    progress: Progress | None = None,
    source: str = "measured",
) -> Costs:
    """Costs of the space on the problem's target.

    Args:
        problem, space: what to measure. store: what was measured before is taken from it.
        builder: code generators. source: measured, or predicted from what is in the store: nothing is compiled.

    Raises:
        CompileError, ToolError: the network can't be compiled for the target. UsageError: nothing to predict from.
    """
    if source not in SOURCES:
        raise UsageError(f"unknown source of costs {source!r}", where="--costs", hint=f"one of {', '.join(SOURCES)}")
    found = [_on(problem, target, space, store, builder, progress, source) for target in problem.targets]
    return worst_of({target.name: costs for target, costs in zip(problem.targets, found, strict=True)})


def worst_of(variants: Mapping[str, Costs]) -> Costs:
    """Costs that no variant exceeds; what was not measured for all of them is left out."""
    every = list(variants.values())
    if len(every) == 1:
        return every[0]
    shared = [name for name in every[0].tables if all(name in costs.tables for costs in every)]
    tables = {
        resource: {
            layer: {form: max(costs.tables[resource][layer][form] for costs in every) for form in row}
            for layer, row in every[0].tables[resource].items()
        }
        for resource in shared
    }
    notes = [f"{name}: {note}" for name, costs in variants.items() for note in costs.notes]
    notes.append(f"costs are the largest of {', '.join(variants)}")
    fixed = {resource: max(costs.fixed[resource] for costs in every) for resource in shared}
    kinds = {costs.measured for costs in every}
    measured = next(kind for kind in ("modelled", "predicted", "emulated", "native") if kind in kinds)
    return Costs(tables, fixed, max(costs.arena for costs in every), measured, notes)


def _on(
    problem: Problem,
    target: Target,
    space: Space,
    store: Store,
    builder: KernelBuilder,
    progress: Progress | None,
    source: str,
) -> Costs:
    """Costs on one processor."""
    with tempfile.TemporaryDirectory(prefix="edgeq-costs-") as folder:
        networks = []
        for done, form in enumerate(space.forms, start=1):
            graph = problem.integerize(space.uniform(*form))
            if source == "predicted":
                networks.append(plan_network(graph, form, target))
            else:
                networks.append(compile_network(graph, form, target, Path(folder), builder))
            if progress:
                progress("networks", done, len(space.forms))
        if source == "predicted":
            amounts, notes = _predicted(networks, store, target)
            measured = "predicted" if amounts else "modelled"
        else:
            amounts, notes = _measured(networks, store, target, progress)
            measured = "native" if "latency" in amounts else "emulated" if amounts else "modelled"
    amounts["weights"] = [[float(step.weights) for step in network.steps] for network in networks]
    tables, fixed = {}, {}
    for resource, rows in amounts.items():
        tables[resource], fixed[resource] = _by_layer(space, networks, rows)
    tables["bitops"] = {
        layer.name: {form: float(layer.macs * form.bits * 8) for form in layer.forms} for layer in space.layers
    }
    fixed["bitops"] = 0.0
    tables["energy"], fixed["energy"] = energy_table(space, tables["weights"]), fixed["weights"] * BYTE
    return Costs(tables, fixed, max(network.arena for network in networks), measured, notes)


def _measured(
    networks: Sequence[Network], store: Store, target: Target, progress: Progress | None
) -> tuple[dict[str, Rows], list[str]]:
    """Times where the code runs here, instructions where there is an emulator; every step is remembered."""
    amounts: dict[str, Rows] = {}
    if target.runs_here():
        amounts["latency"] = _times(networks, store, target, progress)
    instructions, why = count(networks, store, target, progress)
    if instructions is not None:
        amounts["instructions"] = instructions
    for resource, rows in amounts.items():
        estimate.remember(store, estimate.fact_kind(resource, target.name, _machine(resource)), networks, rows)
    return amounts, [f"instructions not counted: {why}"] if instructions is None and why else []


def _predicted(networks: Sequence[Network], store: Store, target: Target) -> tuple[dict[str, Rows], list[str]]:
    """Whatever something is known about."""
    table = target.costs
    resources = {"latency", "instructions"}
    if table is not None:
        resources.discard("instructions" if table.unit == "ps" else "latency")
    amounts: dict[str, Rows] = {}
    notes = []
    for resource in ("latency", "instructions"):
        kind = estimate.fact_kind(resource, target.name, _machine(resource))
        if resource not in resources and not store.all(kind):
            continue
        found = estimate.guess(store, kind, target, networks)
        if found is not None:
            amounts[resource] = found.rows
            notes.append(found.note(resource))
    return amounts, notes or [f"nothing is known about what kernels cost on {target.name}"]


def _times(networks: Sequence[Network], store: Store, target: Target, progress: Progress | None) -> Rows:
    """Seconds of each step of each network, and last what a run takes besides: medians over rounds in turns."""
    keys = [_key(target, network) for network in networks]
    known = [store.get("latency", key) for key in keys]
    if all(value is not None for value in known):
        return [[float(v) for v in value] for value in known if value is not None]
    from edgeq import runtime

    models = [runtime.load(network.path, emulate=False) for network in networks if network.path is not None]
    rounds: list[list[list[float]]] = [[] for _ in networks]
    for done in range(1, ROUNDS + 1):
        for index, model in enumerate(models):
            found = model.profile(repeats=BURST)
            steps = [step.min_ns * 1e-9 for step in found.steps]
            rounds[index].append([*steps, max(0.0, found.total_min_ns * 1e-9 - sum(steps))])
        if progress:
            progress("timing", done, ROUNDS)
    amounts = _same_kernels(networks, [np.median(np.array(part), axis=0).tolist() for part in rounds])
    for key, value in zip(keys, amounts, strict=True):
        store.put("latency", key, value)
    return amounts


def _same_kernels(networks: Sequence[Network], rows: list[list[float]]) -> list[list[float]]:
    """Forms with the same kernel at the same place take the same time: their mean, so that noise chooses nothing."""
    places: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
    for index, network in enumerate(networks):
        seen: Counter[tuple[str, str]] = Counter()
        for number, step in enumerate(network.steps):
            pair = (step.name, step.kernel)
            places.setdefault((*pair, seen[pair]), []).append((index, number))
            seen[pair] += 1
    for group in places.values():
        mean = float(np.mean([rows[index][number] for index, number in group]))
        for index, number in group:
            rows[index][number] = mean
    return rows


def _key(target: Target, network: Network) -> str:
    """Names a measurement of times: kernels say shapes and code, the machine says the rest."""
    from edgeq.cache import content_key

    names = [part for step in network.steps for part in (step.kernel, step.name)]
    return content_key(["latency", "3", target.name, _machine("latency"), *names])


def _machine(resource: str) -> str:
    """Name of this machine's processor: times of another one mean nothing here. Instructions are the same anywhere."""
    import platform

    if resource != "latency":
        return ""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return platform.processor() + model


def _by_layer(
    space: Space, networks: Sequence[Network], rows: Sequence[Sequence[float]]
) -> tuple[dict[str, dict[Form, float]], float]:
    """Sums of steps by layer and form, and what belongs to no layer (mean over the networks)."""
    known = {layer.name for layer in space.layers}
    sums = [dict.fromkeys(known, 0.0) for _ in networks]
    rest = []
    for index, (network, row) in enumerate(zip(networks, rows, strict=True)):
        other = 0.0
        # Times have one more than there are steps: what is between them.
        for name, amount in zip([*(step.name for step in network.steps), ""], row, strict=False):
            if name in known:
                sums[index][name] += amount
            else:
                other += amount
        rest.append(other)
    position = {network.form: index for index, network in enumerate(networks)}
    table = {layer.name: {form: sums[position[form]][layer.name] for form in layer.forms} for layer in space.layers}
    return table, float(np.mean(rest))
