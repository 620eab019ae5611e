"""What may be chosen: for each layer with weights, how many bits they have and how those are stored.

Layers whose width the user's policy fixes keep it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgeq.errors import UsageError
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.products import Product, products
from edgeq.quantize.topology import shape_of

WIDEST = 8
WIDTHS = (8, 7, 6, 5, 4, 3, 2)
#: From this width on weights can be stored packed, at the price of expanding them while a kernel runs.
PACKED_FROM = 4


class Form(NamedTuple):
    """Weights of a layer: how many bits, and whether they are stored packed or a byte each."""

    bits: int
    packed: bool = False

    def __str__(self) -> str:
        return f"{self.bits}{'p' if self.packed else ''}"


#: Layer name → form of its weights.
Assignment = Mapping[str, Form]


@dataclass(frozen=True)
class LayerSpace:
    """A layer with weights.

    Attributes:
        name: of the float graph. parameters: number of weights. macs: multiply-accumulates of a run.
        forms: allowed, widest first.
        is_depthwise: each output channel reads one input channel.
    """

    name: str
    parameters: int
    macs: int
    forms: tuple[Form, ...]
    is_depthwise: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Allowed bits, widest first."""
        return tuple(dict.fromkeys(form.bits for form in self.forms))


@dataclass(frozen=True)
class Space:
    """All layers, in the order of the network."""

    layers: tuple[LayerSpace, ...]

    @property
    def free(self) -> tuple[LayerSpace, ...]:
        """Layers with more than one form."""
        return tuple(layer for layer in self.layers if len(layer.forms) > 1)

    @property
    def forms(self) -> tuple[Form, ...]:
        """Every form that some layer may have, widest first."""
        found = {form for layer in self.layers for form in layer.forms}
        return tuple(sorted(found, key=lambda form: (-form.bits, form.packed)))

    def uniform(self, bits: int, packed: bool = False) -> dict[str, Form]:
        """Every layer in this form, or in the nearest wider one it may have."""
        found = {}
        for layer in self.layers:
            width = min((w for w in layer.widths if w >= bits), default=layer.widths[0])
            wanted = Form(width, packed)
            found[layer.name] = wanted if wanted in layer.forms else Form(width)
        return found


def find_space(plan: Plan, widths: Sequence[int] = WIDTHS, narrowest_edge: int = WIDEST) -> Space:
    """The space of a planned network.

    Args:
        plan: of `edgeq.quantize.pipeline.prepare`; widths that its policy says per layer are fixed.
        widths: what the target has kernels for.
        narrowest_edge: fewest bits of the first and the last layer with weights.

    Raises:
        UsageError: widths outside 2 … 8, or no layer with weights.
    """
    chosen = tuple(sorted({*widths, WIDEST}, reverse=True))
    if chosen[0] > WIDEST or chosen[-1] < WIDTHS[-1]:
        raise UsageError("no such weight width", where="--widths", why=str(list(chosen)), hint="2 to 8 bits")
    found = products(plan.topology)
    if not found:
        raise UsageError("nothing to search", why="the model has no layer with constant weights")
    edges = {found[0].layer.name, found[-1].layer.name}
    layers = []
    for product in found:
        layer = product.layer
        own = _said(plan.policy, layer.names)
        allowed = tuple(w for w in chosen if layer.name not in edges or w >= narrowest_edge)
        layers.append(
            LayerSpace(
                layer.name,
                int(product.weights.size),
                macs_of(plan, product),
                _forms((own,) if own is not None else allowed, product.is_depthwise),
                product.is_depthwise,
            )
        )
    return Space(tuple(layers))


def _forms(widths: Sequence[int], is_depthwise: bool) -> tuple[Form, ...]:
    """Depthwise weights are few: they are never packed."""
    packable = 0 if is_depthwise else PACKED_FROM
    return tuple(Form(bits, packed) for bits in widths for packed in ((False, True) if bits <= packable else (False,)))


def _said(policy: Policy, names: Sequence[str]) -> int | None:
    """Bits that the policy gives a layer by name; its defaults leave the choice open."""
    return policy.model_copy(update={"defaults": LayerPolicy()}).layer(*names).weight_bits


def macs_of(plan: Plan, product: Product) -> int:
    """Multiply-accumulates of a run: each weight is used once for every output value of its channel."""
    positions = math.prod(shape_of(product.layer.output)) // len(product.rows)
    return int(product.weights.size) * max(1, positions)
