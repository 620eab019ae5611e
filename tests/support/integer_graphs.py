"""Integer graphs compared apart from the names of their nodes and values."""

from __future__ import annotations

from typing import Any

from edgeq.integer.builder import get_quant
from edgeq.integer.graph import IntegerGraph, constant_of


def canonical(graph: IntegerGraph) -> list[Any]:
    """Inputs, nodes and outputs with attributes, constants and quantizations; values are numbered as they appear."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    def operand(value: Any) -> Any:
        if value is None:
            return None
        array = constant_of(value)
        return number(value.name) if array is None else (str(array.dtype), array.shape, array.tobytes())

    found: list[Any] = [(number(value.name), graph.quant(value)) for value in graph.inputs]
    for step in graph.steps():
        inputs = [operand(value) for value in step.node.inputs]
        outputs = [(number(value.name), get_quant(value)) for value in step.node.outputs]
        found.append((step.op.name, inputs, sorted(step.call.attrs.items()), outputs))
    return [*found, [number(value.name) for value in graph.outputs]]
