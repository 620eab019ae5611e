"""Rounding the layers of a network: all at once, or one after the other, each making up for those in front of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgeq.quantize.error.fakequant import FakeQuantized
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, products
from edgeq.quantize.rounding.gram import Gram, collect
from edgeq.quantize.rounding.solve import solve_all
from edgeq.quantize.session import Session, model_with_outputs
from edgeq.quantize.topology import Topology, name_of

Array = NDArray[Any]

#: Most stages of a sequential run: each costs a pass through the network up to its layers.
STAGES = 12


def moments(
    plan: Plan,
    samples: Sequence[dict[str, Array]],
    layers: Sequence[Product],
    threads: int | None = None,
    *,
    with_float: bool = False,
) -> dict[str, Gram]:
    """Moments of the inputs of some layers in a planned network, by layer name; see `gram.collect`."""
    names = list(dict.fromkeys(name_of(product.layer.inputs[0]) for product in layers))
    network = FakeQuantized(plan, names)
    return collect(network, samples, layers, _float_session(plan.topology, names) if with_float else None, threads)


def _float_session(topology: Topology, names: Sequence[str]) -> Session:
    given = {name_of(value) for value in topology.graph.inputs}
    # A session has to give out something; the graph's own output where only inputs are asked for.
    wanted = [name for name in names if name not in given] or [name_of(topology.graph.outputs[0])]
    return Session(model_with_outputs(topology.model, wanted), wanted)


def stages(topology: Topology, layers: Sequence[Product], most: int = STAGES) -> list[list[Product]]:
    """The layers grouped by how many of them lie in front of each, in order; at most `most` groups."""
    by_name = {product.layer.name: product for product in layers}
    depth: dict[str, int] = {}
    level: dict[str, int] = {}
    for layer in topology.layers:
        reached = max((depth.get(name_of(value), 0) for value in layer.inputs), default=0)
        if layer.name in by_name:
            level[layer.name] = reached
            reached += 1
        depth.update({name_of(value): reached for value in layer.outputs})
    levels = sorted(set(level.values()))
    size = -(-len(levels) // most)
    grouped = [set(levels[start : start + size]) for start in range(0, len(levels), max(1, size))]
    return [[by_name[name] for name, found in level.items() if found in group] for group in grouped]


def round_in_order(
    plan: Plan,
    samples: Sequence[dict[str, Array]],
    bits: Mapping[str, int],
    rounding: Mapping[str, str],
    clip: Mapping[str, str | None],
    threads: int | None = None,
) -> dict[str, QuantizedWeights]:
    """Round every layer so that on the inputs it really gets it comes close to what it is in the float network.

    Layers are taken in order; those in front are rounded already, and the target weights of a layer take up what their
    errors did to its input (the asymmetric form of GPTQ's objective, Li et al., "GPTAQ", arXiv 2504.02692).

    Args:
        plan: the network. samples: feeds.
        bits, rounding, clip: by layer name, see `solve.solve`; only these layers are rounded.
    """
    chosen = dict(plan.weights)
    layers = [product for product in products(plan.topology) if product.layer.name in bits]
    for stage in stages(plan.topology, layers):
        grams = moments(plan.with_weights(chosen), samples, stage, threads, with_float=True)
        chosen |= solve_all(plan, stage, grams, bits, rounding, clip, threads)
    return chosen
