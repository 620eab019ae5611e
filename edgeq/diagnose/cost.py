"""What an integer graph costs on a target: bytes of constants and arena, and an estimate of its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.integer.graph import IntegerGraph, Step

if TYPE_CHECKING:
    from edgeq.compiler.costs import Kind
    from edgeq.compiler.target import Target

#: A product that reads 16 bits takes about twice the time of one that reads 8: half as many fit into a register.
WIDE_FACTOR = 2.0


@dataclass(frozen=True)
class Cost:
    """Estimates before anything is built.

    Attributes:
        constants: bytes of weights, biases and tables. arena: bytes of activations and scratch, one thread; None where
            the target isn't known.
        products: cost of all multiply-accumulates in the unit of the target's costs.toml, 16-bit inputs
            counted WIDE_FACTOR times; kinds of layers that the table leaves out count nothing. None without a table.
            unit: of `products`: ps or instructions.
    """

    constants: int
    arena: int | None
    products: float | None
    unit: str | None


def cost_of(graph: IntegerGraph, target: Target | None) -> Cost:
    """Estimate the cost of a graph.

    Args:
        graph: integer graph. target: what it would be compiled for; None: bytes of constants only.
    """
    constants = sum(v.const_value.nbytes for v in graph.model.graph.initializers.values() if v.const_value is not None)
    if target is None:
        return Cost(int(constants), None, None, None)
    from edgeq.compiler.lower.lower import lower
    from edgeq.compiler.plan import plan_memory

    arena = plan_memory(lower(graph, target, max_threads=1)).size
    unit = target.costs.unit if target.costs else None
    return Cost(int(constants), arena, _products(graph, target), unit)


def _products(graph: IntegerGraph, target: Target) -> float | None:
    from edgeq.evaluate.describe import layers_of

    layers = {layer.name: layer for layer in layers_of(graph.model)}
    total = 0.0
    for step in graph.steps():
        layer = layers.get(str(step.node.name))
        if layer is None or not layer.macs:
            continue
        each = target.cost(_kind(step), layer.weight_bits or 8)
        if each is None:
            continue
        total += layer.macs * each * (WIDE_FACTOR if _reads_wide(step) else 1.0)
    return total or None


def _kind(step: Step) -> Kind:
    if not step.node.op_type.startswith("Conv"):
        return "gemm"
    shape = step.node.inputs[1].shape if step.node.inputs[1] is not None else None
    sizes = [int(size) for size in shape or () if isinstance(size, int)]
    group = step.node.attributes.get("group")
    if group is not None and group.as_int() > 1 and sizes[1:2] == [1]:
        return "depthwise"
    return "gemm" if sizes[2:] == [1, 1] else "conv"


def _reads_wide(step: Step) -> bool:
    first = step.node.inputs[0]
    return first is not None and first.dtype is not None and first.dtype.itemsize == 2
