"""What each place costs on the target in every form it may have.

The network is compiled once for each form of weights with every layer in that form, and a few times for everything
else (`probes.py`); each layer runs the kernel it would run in a mixed network, with its real shapes and neighbours.
Bytes come from the artifact, times from the runtime's own step timer (all networks in turns, so that a busy machine
disturbs them alike), instructions from the emulator or an emulated board: exact and the same in every run. Without
compiling, `predicted` costs come from kernels measured before.

A target that stands for several processors costs what the one takes that takes most, layer by layer: no variant
exceeds what is predicted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import UsageError
from edgeq.search.costs import estimate
from edgeq.search.costs.counting import count
from edgeq.search.costs.energy import BYTE, bitops_table, energy_table
from edgeq.search.costs.networks import Network, compile_network, plan_network
from edgeq.search.costs.probes import Probe, other_probes, weight_probes, without_effect
from edgeq.search.costs.tables import Rows, by_place, no_better, no_gain
from edgeq.search.costs.timing import machine, times
from edgeq.search.problem import Problem, Progress
from edgeq.search.solvers.milp import Table
from edgeq.search.space import WIDEST, Assignment, Choice, Space
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.compiler.target import Target

#: Share of the whole that a form which isn't of weights must save to be a choice.
GAIN = 1e-4
#: Where costs come from.
SOURCES = ("measured", "predicted")


@dataclass
class Costs:
    """Cost of every layer in every form, and of what no choice changes.

    Attributes:
        tables: resource → place → {form: amount}: latency in seconds, instructions, weights in bytes, bitops, energy
            in joules (a proxy, see `energy.py`).
        fixed: resource → amount of all steps that belong to no weights.
        arena: bytes, the most of all forms. arenas: by place that isn't weights and form, of the network it was in.
        measured: "native", "emulated" (instructions only), "predicted", or "modelled" (sizes only).
        notes: what could not be measured and why, and how far guesses are off.
    """

    tables: dict[str, dict[str, dict[Choice, float]]]
    fixed: dict[str, float]
    arena: int
    measured: str
    notes: list[str] = field(default_factory=list)
    arenas: dict[tuple[str, Choice], int] = field(default_factory=dict)

    def restricted(self, space: Space) -> Costs:
        """The same for a space with fewer forms."""
        tables = {
            resource: {place.name: {form: table[place.name][form] for form in place.forms} for place in space.places}
            for resource, table in self.tables.items()
        }
        kept = {(place.name, form) for place in space.others for form in place.forms}
        arenas = {key: size for key, size in self.arenas.items() if key in kept}
        return replace(self, tables=tables, arena=max([self.arena, *arenas.values()]), arenas=arenas)

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
    arenas = {key: max(costs.arenas.get(key, 0) for costs in every) for costs in every for key in costs.arenas}
    return Costs(tables, fixed, max(costs.arena for costs in every), measured, notes, arenas)


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
        make = partial(_network, problem, target, None if source == "predicted" else (Path(folder), builder))
        probes = [*weight_probes(space), *other_probes(space)]
        networks = []
        for done, probe in enumerate(probes, start=1):
            networks.append(make(probe))
            if progress:
                progress("networks", done, len(probes))
        if source == "predicted":
            amounts, notes = _predicted(networks, store, target)
            measured = "predicted" if amounts else "modelled"
        else:
            amounts, notes = _measured(networks, store, target, progress)
            measured = "native" if "latency" in amounts else "emulated" if amounts else "modelled"
    amounts["weights"] = [[float(step.weights) for step in network.steps] for network in networks]
    tables, fixed = {}, {}
    for resource, rows in amounts.items():
        tables[resource], fixed[resource] = by_place(space, probes, networks, rows)
    tables["bitops"], fixed["bitops"] = bitops_table(space), 0.0
    tables["energy"], fixed["energy"] = energy_table(space, tables["weights"]), fixed["weights"] * BYTE
    arena = max(network.arena for probe, network in zip(probes, networks, strict=True) if not probe.changed)
    arenas = {
        key: network.arena for probe, network in zip(probes, networks, strict=True) for key in probe.changed.items()
    }
    return Costs(tables, fixed, arena, measured, notes, arenas)


def _network(problem: Problem, target: Target, build: tuple[Path, KernelBuilder] | None, probe: Probe) -> Network:
    """The network of a probe, compiled in a folder; None: only planned, once."""
    if build is not None:
        folder, builder = build
        return compile_network(problem.integerize(probe.assignment), probe.form, target, folder, builder)
    key = target.name, " ".join(f"{name}={choice}" for name, choice in sorted(probe.assignment.items()))
    if key not in problem.planned:
        problem.planned[key] = plan_network(problem.integerize(probe.assignment), probe.form, target)
    return problem.planned[key]


def effective(problem: Problem, space: Space, progress: Progress | None = None) -> Space:
    """The space without forms that lead to the kernels that are there anyway, on every target of the problem.

    Networks are only planned for it.
    """
    probes = other_probes(space)
    if not probes:
        return space
    useless: list[dict[str, list[Choice]]] = []
    for target in problem.targets:
        base = _network(problem, target, None, weight_probes(space)[0])
        pairs = []
        for done, probe in enumerate(probes, start=1):
            pairs.append((probe, _network(problem, target, None, probe)))
            if progress:
                progress("planning", done, len(probes))
        useless.append(without_effect(space, base, pairs))
    return without(space, common(useless))


def gainful(space: Space, costs: Costs, resources: Collection[str]) -> Space:
    """The space without forms that save none of some resources beside a finer form of their place."""
    counted = {name: table for name, table in costs.tables.items() if name in resources}
    totals = {name: costs.total(name, space.uniform(WIDEST)) for name in counted}
    return without(space, no_gain(space, counted, totals, GAIN))


def fitting(space: Space, costs: Costs, most: float | None) -> Space:
    """The space without forms whose network has a larger arena than is allowed (bytes; None: any)."""
    over = [key for key, size in costs.arenas.items() if most is not None and size > most]
    return without(space, {name: [form for other, form in over if other == name] for name, _ in over})


def useful(space: Space, costs: Costs, resources: Collection[str], harm: Table) -> Space:
    """The space without forms that neither save some of these resources nor lose less than what their place has."""
    counted = {name: table for name, table in costs.tables.items() if name in resources}
    return without(space, no_better(space, counted, harm))


def without(space: Space, forms: Mapping[str, Collection[Choice]]) -> Space:
    """The space without some forms of some places; what a place has anyway stays."""
    return space.restricted(
        {
            place.name: [form for form in place.forms if form == place.base or form not in forms[place.name]]
            for place in space.places
            if place.name in forms
        }
    )


def common(found: Sequence[Mapping[str, Collection[Choice]]]) -> dict[str, list[Choice]]:
    """Forms that every one of several lists by place has."""
    return {
        name: [form for form in forms if all(form in each.get(name, ()) for each in found)]
        for name, forms in found[0].items()
    }


def _measured(
    networks: Sequence[Network], store: Store, target: Target, progress: Progress | None
) -> tuple[dict[str, Rows], list[str]]:
    """Times where the code runs here, instructions where there is an emulator; every step is remembered."""
    amounts: dict[str, Rows] = {}
    if target.runs_here():
        amounts["latency"] = times(networks, store, target, progress)
    instructions, why = count(networks, store, target, progress)
    if instructions is not None:
        amounts["instructions"] = instructions
    for resource, rows in amounts.items():
        estimate.remember(store, _fact_kind(resource, target), networks, rows)
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
        kind = _fact_kind(resource, target)
        if resource not in resources and not store.all(kind):
            continue
        found = estimate.guess(store, kind, target, networks)
        if found is not None:
            amounts[resource] = found.rows
            notes.append(found.note(resource))
    return amounts, notes or [f"nothing is known about what kernels cost on {target.name}"]


def _fact_kind(resource: str, target: Target) -> str:
    """Instructions are the same on any machine, times are not."""
    return estimate.fact_kind(resource, target.name, machine() if resource == "latency" else "")
