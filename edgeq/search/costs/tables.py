"""From amounts of every step of every network to what each form of each place costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.search.costs.networks import Network
from edgeq.search.costs.probes import Probe
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Choice, Space

Rows = Sequence[Sequence[float]]


def by_place(
    space: Space, probes: Sequence[Probe], networks: Sequence[Network], rows: Rows
) -> tuple[dict[str, dict[Choice, float]], float]:
    """Amounts by place and form, and what belongs to no weights' layer.

    Weights cost what the steps of their layer take. Other places cost the difference that a form makes to the steps
    they touch; what no touched step accounts for is shared among the places of the network.

    Args:
        space: places. probes: of the networks, that of the widest weights first. rows: [network][step]; a row may
            have one amount more, of what is between the steps.
    """
    sums = [_by_layer(network, row) for network, row in zip(networks, rows, strict=True)]
    known = {place.name for place in space.weighted}
    uniform = [index for index, probe in enumerate(probes) if not probe.changed]
    position = {probes[index].form: index for index in uniform}
    table: dict[str, dict[Choice, float]] = {
        place.name: {form: sums[position[form]].get(place.name, 0.0) for form in place.forms}  # type: ignore[index]
        for place in space.weighted
    }
    table |= {place.name: {place.base: 0.0} for place in space.others}
    touches = {place.name: place.touches for place in space.others}
    for probe, found in zip(probes, sums, strict=True):
        if probe.changed:
            for name, amount in _differences(probe, touches, sums[0], found).items():
                table[name][probe.changed[name]] = amount
    ordered = {place.name: {form: table[place.name][form] for form in place.forms} for place in space.places}
    rest = [sum(amount for name, amount in sums[index].items() if name not in known) for index in uniform]
    return ordered, float(np.mean(rest))


def _by_layer(network: Network, row: Sequence[float]) -> dict[str, float]:
    """Sums of steps by layer; "" is what is between them."""
    found: dict[str, float] = {}
    for name, amount in zip([*(step.name for step in network.steps), ""], row, strict=False):
        found[name] = found.get(name, 0.0) + amount
    return found


def _differences(
    probe: Probe, touches: Mapping[str, frozenset[str]], usual: Mapping[str, float], found: Mapping[str, float]
) -> dict[str, float]:
    """By changed place, what it makes a network cost more."""
    more = {name: found.get(name, 0.0) - usual.get(name, 0.0) for name in {*found, *usual} if name}
    own = {name: sum(more.get(layer, 0.0) for layer in sorted(touches[name])) for name in probe.changed}
    left = sum(more.values()) - sum(own.values())
    return {name: amount + left / len(own) for name, amount in own.items()}


def no_gain(
    space: Space, tables: Mapping[str, Table], totals: Mapping[str, float], least: float
) -> dict[str, list[Choice]]:
    """By place that isn't weights, the forms that save nothing beside a finer one.

    Args:
        tables: resource → costs that count. totals: of the network as it would be anyway. least: share of these that
            a form must save.
    """

    def saves(name: str, choice: Choice, finer: Choice) -> bool:
        return any(
            table[name][choice] <= table[name][finer] - least * totals[resource] for resource, table in tables.items()
        )

    found: dict[str, list[Choice]] = {}
    for place in space.others:
        kept: list[Choice] = []
        for choice in place.forms:
            if choice == place.base or all(saves(place.name, choice, finer) for finer in kept):
                kept.append(choice)
        found[place.name] = [choice for choice in place.forms if choice not in kept]
    return found


def no_better(space: Space, tables: Mapping[str, Table], harm: Table) -> dict[str, list[Choice]]:
    """By place that isn't weights, the forms that cost no less than the usual one and lose no less."""

    def is_better(name: str, choice: Choice, usual: Choice) -> bool:
        tables_of = [*tables.values(), harm]
        return any(table[name][choice] < table[name][usual] for table in tables_of)

    return {
        place.name: [f for f in place.forms if f != place.base and not is_better(place.name, f, place.base)]
        for place in space.others
    }
