"""What may be chosen: places of a network, each with its forms.

A place is a layer's weights (how many bits they have and how those are stored), or anything else of the network that
the policy can say in several ways: the form of a softmax, the type of a tensor (`places/`). Its forms are in order, the
finest first: none is taken to be more accurate than those in front of it. What the user's policy fixes by name is no
place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edgeq.errors import UsageError
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.products import Product, products
from edgeq.quantize.topology import shape_of

WIDEST = 8
WIDTHS = (8, 7, 6, 5, 4, 3, 2)
#: From this width on weights can be stored packed, at the price of expanding them while a kernel runs.
PACKED_FROM = 4
WEIGHTS, SCALE = "weights", "scale"


class Form(NamedTuple):
    """Weights of a layer: how many bits, whether they are stored packed or a byte each, and whether their scales are
    such that requantizing is a shift."""

    bits: int
    packed: bool = False
    shifts: bool = False

    def __str__(self) -> str:
        return f"{self.bits}{'p' if self.packed else ''}{'s' if self.shifts else ''}"

    @property
    def values(self) -> str:
        """What the integers depend on: how they are stored doesn't change them."""
        return f"{self.bits}{'s' if self.shifts else ''}"

    @property
    def kind(self) -> str:
        """Of the place it is a form of."""
        return WEIGHTS

    @property
    def change(self) -> LayerPolicy:
        """How the policy says it; how more than four bits are stored is never a choice."""
        said = LayerPolicy(weight_bits=self.bits, scale="pow2" if self.shifts else None)
        if self.bits > PACKED_FROM:
            return said
        return said.model_copy(update={"weights": "small" if self.packed else "fast"})


class Variant(NamedTuple):
    """Anything else that a policy can say of a layer: `field` of `LayerPolicy` has this value."""

    kind: str
    field: str
    value: str | int

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"

    @property
    def change(self) -> LayerPolicy:
        """How the policy says it."""
        return LayerPolicy.model_validate({self.field: self.value})


Choice = Form | Variant

#: Name of a place → its form.
Assignment = Mapping[str, Choice]


def layer_of(name: str, choice: Choice) -> str:
    """How the policy names the layer of a place."""
    return name if isinstance(choice, Form) else name.removeprefix(place_name(choice.kind, ""))


def place_name(kind: str, layer: str) -> str:
    """Name of a place that isn't weights."""
    return f"{kind} of {layer}"


def choice_of(stored: Sequence[Any]) -> Choice:
    """A form from what JSON made of it."""
    return Variant(*stored) if isinstance(stored[0], str) else Form(*stored)


@dataclass(frozen=True)
class Place:
    """Something that may be chosen.

    Attributes:
        name: unique; of weights their layer's.
        forms: allowed, finest first. base: the form it has where nothing is chosen.
        parameters: number of weights. macs: multiply-accumulates of a run that read them. 0: not weights.
        is_depthwise: each output channel reads one input channel.
        touches: names of layers whose kernels may be others in another form.
        pinned: the policy says its form even where it has one alone.
    """

    name: str
    parameters: int
    macs: int
    forms: tuple[Choice, ...]
    is_depthwise: bool = False
    default: Choice | None = None
    touches: frozenset[str] = frozenset()
    pinned: bool = False

    @property
    def layer(self) -> str:
        """How the policy names its layer."""
        return layer_of(self.name, self.forms[0])

    @property
    def base(self) -> Choice:
        """The form it has where nothing is chosen."""
        return self.forms[0] if self.default is None else self.default

    @property
    def kind(self) -> str:
        """What is chosen here: weights, softmax, …"""
        return self.forms[0].kind

    @property
    def widths(self) -> tuple[int, ...]:
        """Allowed bits of weights, widest first."""
        return tuple(dict.fromkeys(form.bits for form in self.forms if isinstance(form, Form)))


@dataclass(frozen=True)
class Space:
    """All places: layers with weights in the order of the network, then everything else."""

    places: tuple[Place, ...]

    @property
    def free(self) -> tuple[Place, ...]:
        """Places with more than one form."""
        return tuple(place for place in self.places if len(place.forms) > 1)

    @property
    def weighted(self) -> tuple[Place, ...]:
        """Layers with weights."""
        return tuple(place for place in self.places if place.kind == WEIGHTS)

    @property
    def others(self) -> tuple[Place, ...]:
        """Places that aren't weights."""
        return tuple(place for place in self.places if place.kind != WEIGHTS)

    @property
    def forms(self) -> tuple[Form, ...]:
        """Every form that some weights may have, widest first."""
        found = {form for place in self.weighted for form in place.forms if isinstance(form, Form)}
        return tuple(sorted(found, key=lambda form: (form.shifts, -form.bits, form.packed)))

    def uniform(self, bits: int, packed: bool = False, shifts: bool = False) -> dict[str, Choice]:
        """All weights in this form, or in the nearest wider one they may have; everything else as it is."""
        found: dict[str, Choice] = {}
        for place in self.places:
            if place.kind != WEIGHTS:
                found[place.name] = place.base
                continue
            width = min((w for w in place.widths if w >= bits), default=place.widths[0])
            nearest = (Form(width, packed, shifts), Form(width, False, shifts), Form(width), place.base)
            found[place.name] = next(form for form in nearest if form in place.forms)
        return found

    def changes(self, assignment: Assignment) -> dict[str, Choice]:
        """What tells an assignment from others: the forms of weights, and what else is not as it would be anyway."""
        return {
            place.name: assignment[place.name]
            for place in self.places
            if place.kind == WEIGHTS or assignment[place.name] != place.base
        }

    def restricted(self, forms: Mapping[str, Sequence[Choice]]) -> Space:
        """The space with fewer forms at some places; a place that is left with what it has anyway is none."""
        cut = [
            replace(place, forms=tuple(form for form in place.forms if form in forms.get(place.name, place.forms)))
            for place in self.places
        ]
        pinned = any(place.pinned and len(place.forms) > 1 for place in cut)
        return Space(
            tuple(
                place
                for place in cut
                if place.kind == WEIGHTS or place.forms != (place.base,) or (place.pinned and pinned)
            )
        )


def find_space(
    plan: Plan, widths: Sequence[int] = WIDTHS, narrowest_edge: int = WIDEST, kinds: Sequence[str] = (WEIGHTS,)
) -> Space:
    """The space of a planned network.

    Args:
        plan: of `edgeq.quantize.pipeline.prepare`; what its policy says per layer is fixed.
        widths: what the target has kernels for.
        narrowest_edge: fewest bits of the first and the last layer with weights.
        kinds: what may be chosen, of `places.KINDS`. Without weights these keep 8 bits.

    Raises:
        UsageError: widths outside 2 … 8, an unknown kind, or no layer with weights.
    """
    from edgeq.search.places import find_places

    chosen = tuple(sorted({*widths, WIDEST}, reverse=True))
    if chosen[0] > WIDEST or chosen[-1] < WIDTHS[-1]:
        raise UsageError("no such weight width", where="--widths", why=str(list(chosen)), hint="2 to 8 bits")
    found = products(plan.topology)
    if not found:
        raise UsageError("nothing to search", why="the model has no layer with constant weights")
    if WEIGHTS not in kinds:
        chosen = (WIDEST,)
    edges = {found[0].layer.name, found[-1].layer.name}
    places = []
    for product in found:
        layer = product.layer
        own = said(plan.policy, layer.names)
        scales = (False, True) if SCALE in kinds and own.scale is None else (False,)
        allowed = tuple(w for w in chosen if layer.name not in edges or w >= narrowest_edge)
        places.append(
            Place(
                layer.name,
                int(product.weights.size),
                macs_of(plan, product),
                _forms((own.weight_bits,) if own.weight_bits else allowed, product.is_depthwise, scales),
                product.is_depthwise,
                touches=frozenset([layer.name]),
            )
        )
    taken = {place.name for place in places}
    others = find_places(plan, [kind for kind in kinds if kind != WEIGHTS])
    return Space((*places, *(place for place in others if place.name not in taken)))


def _forms(widths: Sequence[int], is_depthwise: bool, scales: Sequence[bool]) -> tuple[Form, ...]:
    """Depthwise weights are few: they are never packed."""
    packable = 0 if is_depthwise else PACKED_FROM
    return tuple(
        Form(bits, packed, shifts)
        for bits in widths
        for shifts in scales
        for packed in ((False, True) if bits <= packable else (False,))
    )


def said(policy: Policy, names: Sequence[str]) -> LayerPolicy:
    """What the policy says of a layer by name; its defaults leave choices open."""
    return policy.named(*names)


def macs_of(plan: Plan, product: Product) -> int:
    """Multiply-accumulates of a run: each weight is used once for every output value of its channel."""
    positions = math.prod(shape_of(product.layer.output)) // len(product.rows)
    return int(product.weights.size) * max(1, positions)
