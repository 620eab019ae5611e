"""Who makes the final output's error: one tensor rounded, or one layer's weights rounded, everything else in float.

The parts nearly add up, which is what makes them comparable; a layer's own SQNR says little here, since some layers'
errors die out and others' grow on the way to the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeq.diagnose.opened import replace_nodes
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.error.fakequant import float_weights, insert_weights, real_weights
from edgeq.quantize.error.simulate import Simulation, largest_error
from edgeq.quantize.plan import S8, Plan
from edgeq.quantize.products import Product, plain_weights, products, read_quant
from edgeq.quantize.promote import final_outputs
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import name_of

Array = NDArray[Any]
Feeds = Sequence[dict[str, Array]]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Guilt:
    """What a layer does to the final output by itself.

    Attributes:
        layer: its name (an input's own). output: the tensor that is rounded.
        activation, weight: normalised squared error of the final output with only that in integers.
    """

    layer: str
    output: str
    activation: float
    weight: float

    @property
    def total(self) -> float:
        """Of the layer as a whole."""
        return self.activation + self.weight


def find_guilty(plan: Plan, feeds: Feeds, threads: int | None = None, progress: Progress | None = None) -> list[Guilt]:
    """Every layer's guilt, worst first; layers that do nothing to the output are left out."""
    rounded = _rounded(plan)
    total = len(rounded) + len(products(plan.topology))

    def advance(done: int) -> None:
        if progress:
            progress("guilt", done, total)

    activations = _activations(plan, rounded, feeds, threads, advance)
    weights = _weights(plan, feeds, threads, lambda done: advance(len(rounded) + done))
    found = []
    for name in dict.fromkeys([*activations, *weights]):
        layer = plan.topology.producer.get(name)
        label = layer.name if layer else name
        found.append(Guilt(label, name, activations.get(name, 0.0), weights.get(name, 0.0)))
    return sorted((guilt for guilt in found if guilt.total > 0), key=lambda guilt: -guilt.total)


def _rounded(plan: Plan) -> list[str]:
    """Values that the integer network rounds to 8 bits or fewer."""
    names = (name_of(value) for value in plan.topology.values())
    return [n for n in names if plan.ties.is_root(n) and not plan.is_exact(n) and plan.quant(n).dtype == S8]


def _activations(plan: Plan, names: list[str], feeds: Feeds, threads: int | None, advance: Advance) -> dict[str, float]:
    simulation = Simulation(
        plan.topology.model, {name: {name: plan.quant(name)} for name in names}, final_outputs(plan.topology)
    )
    reference, errors = simulation.run(feeds, (), threads), {}
    for done, name in enumerate(names, start=1):
        errors[name] = largest_error(reference, simulation.run(feeds, (name,), threads))
        advance(done)
    return errors


def _weights(plan: Plan, feeds: Feeds, threads: int | None, advance: Advance) -> dict[str, float]:
    """By the name of the layer's output."""
    found = products(plan.topology)
    outputs = final_outputs(plan.topology)
    proto = model_with_outputs(plan.topology.model, outputs)
    nodes = insert_weights(proto.graph, [(product, float_weights(product)) for product in found])
    replace_nodes(proto.graph, nodes)
    session = Session(proto, outputs)

    def run(weights: dict[str, Array]) -> list[list[Array]]:
        return list(map_ordered(lambda sample: session.run({**sample, **weights}), feeds, threads))

    reference, errors = run({}), {}
    for done, product in enumerate(found, start=1):
        errors[name_of(product.layer.output)] = largest_error(reference, run(_integers(plan, product)))
        advance(done)
    return errors


def _integers(plan: Plan, product: Product) -> dict[str, Array]:
    chosen = plan.weights.get(product.layer.name) or plain_weights(plan, product)
    return real_weights(product, chosen, read_quant(plan, product).scale)
