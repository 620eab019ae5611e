"""First, last and depthwise layers: those that suffer most from narrow weights, and cost least at 8 bits."""

from __future__ import annotations

import glob
from collections.abc import Mapping

from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.products import products
from edgeq.quantize.topology import Topology, name_of

KINDS = ("first", "last", "depthwise")
#: Weights of that many bits and more need no exceptions.
SAFE_BITS = 7


def kinds(topology: Topology) -> dict[str, list[str]]:
    """Layers with weights by kind.

    first: no other such layer lies in front; last: none behind (a detector has several of either); depthwise: every
    output channel reads a single input channel.

    Returns:
        {"first": names, "last": names, "depthwise": names}, in order.
    """
    found = {product.layer.name: product for product in products(topology)}
    behind: dict[str, frozenset[str]] = {}
    first, last = [], dict.fromkeys(found)
    for layer in topology.layers:
        nearest = frozenset[str]().union(*(behind.get(name_of(value), frozenset()) for value in layer.inputs))
        if layer.name in found:
            if not nearest:
                first.append(layer.name)
            for name in nearest:
                last.pop(name, None)
            nearest = frozenset([layer.name])
        behind.update({name_of(value): nearest for value in layer.outputs})
    return {
        "first": first,
        "last": list(last),
        "depthwise": [name for name, product in found.items() if product.is_depthwise],
    }


def resolve(policy: Policy, topology: Topology) -> Policy:
    """The policy with `first`, `last` and `depthwise` written out layer by layer."""
    sections: Mapping[str, LayerPolicy] = {kind: getattr(policy, kind) for kind in KINDS}
    if all(section == LayerPolicy() for section in sections.values()):
        return policy
    written: dict[str, LayerPolicy] = {}
    for kind, names in kinds(topology).items():
        for name in map(only, names):
            written[name] = sections[kind].over(written.get(name, LayerPolicy()))
    return Policy(defaults=policy.defaults, layers={**written, **policy.layers})


def only(name: str) -> str:
    """A pattern that matches a name and nothing else, and is spelled otherwise: the policy may name the layer too."""
    escaped = glob.escape(name)
    return escaped if escaped != name else f"{name[:-1]}[{name[-1]}]"


def with_weight_bits(policy: Policy, bits: int, edge_bits: int | None = None) -> Policy:
    """A policy with a width for all weights, and one for the first, last and depthwise layers.

    Args:
        policy: what it says of single layers, and of the three kinds, still holds.
        bits: 2 … 8. edge_bits: of first, last and depthwise layers; None: 8 where `bits` is less than 7.
    """
    edges = edge_bits or (8 if bits < SAFE_BITS else bits)
    changed = {kind: getattr(policy, kind).over(LayerPolicy(weight_bits=edges)) for kind in KINDS}
    defaults = LayerPolicy(weight_bits=bits).over(policy.defaults)
    return policy.model_copy(update={"defaults": defaults, **changed})
