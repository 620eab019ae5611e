"""Which networks are compiled to find out what every form of every place costs.

One network for each form of weights, with all weights in it; then as few as possible in which other places have other
forms: as many at a time as touch no layer in common, so that what a layer costs more or less is due to one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeq.search.costs.networks import Network
from edgeq.search.space import WIDEST, Choice, Form, Place, Space


@dataclass
class Probe:
    """A network to compile.

    Attributes:
        assignment: form of every place. form: of all weights that may have it.
        changed: by place, what is not as it would be anyway; weights apart.
    """

    assignment: dict[str, Choice]
    form: Form
    changed: dict[str, Choice] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    def add(self, place: Place, choice: Choice) -> bool:
        """Change one place more, unless it touches what others touch."""
        if not self.touched.isdisjoint(place.touches):
            return False
        self.assignment[place.name] = self.changed[place.name] = choice
        self.touched |= place.touches
        return True


def weight_probes(space: Space) -> list[Probe]:
    """One for each form of weights; the widest, first, is what the others are compared with."""
    return [Probe(space.uniform(*form), form) for form in space.forms]


def other_probes(space: Space) -> list[Probe]:
    """Networks in which every other form of every other place occurs once, weights at 8 bits."""
    found: list[Probe] = []
    for place in space.others:
        for choice in place.forms:
            if choice != place.base and not any(probe.add(place, choice) for probe in found):
                found.append(Probe(space.uniform(WIDEST), Form(WIDEST)))
                found[-1].add(place, choice)
    return found


def without_effect(space: Space, base: Network, probes: Sequence[tuple[Probe, Network]]) -> dict[str, list[Choice]]:
    """By place, the forms that lead to the kernels and sizes that are there anyway, in planned networks."""
    usual = _steps_by_layer(base)
    found: dict[str, list[Choice]] = {}
    for probe, network in probes:
        steps = _steps_by_layer(network)
        # A step that no changed place accounts for may be any one's.
        strange = any(steps.get(name) != usual.get(name) for name in {*steps, *usual} - probe.touched)
        for place in space.others:
            if place.name not in probe.changed or strange:
                continue
            if all(steps.get(name) == usual.get(name) for name in place.touches):
                found.setdefault(place.name, []).append(probe.changed[place.name])
    return found


def _steps_by_layer(network: Network) -> Mapping[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for step in network.steps:
        found.setdefault(step.name, []).append((step.kernel, step.weights))
    return found
