"""Proof of width: the interval of every value of a graph, every intermediate shown to fit."""

from __future__ import annotations

from edgeq.integer.graph import IntegerGraph, constant_of, tensor_type
from edgeq.integer.intervals import Interval


def prove(graph: IntegerGraph) -> dict[str, Interval]:
    """Evaluate every op's intervals with its real constants, from the inputs' full dtype ranges on.

    Returns:
        value name -> interval, for inputs and everything computed.

    Raises:
        CompileError: an intermediate of a node could pass 32 bits (or the width that the op states); names the node.
    """
    known: dict[str, Interval] = {}
    for value in graph.inputs:
        known[str(value.name)] = Interval.of_dtype(tensor_type(value).dtype)
    for step in graph.steps():
        inputs: list[Interval] = []
        for value in step.node.inputs:
            if value is None:
                inputs.append(Interval.of(0, 0))
            elif value.name in known:
                inputs.append(known[value.name])
            else:
                constant = constant_of(value)
                if constant is None:
                    raise step.call.fail(f"nothing before it makes its input {value.name}")
                inputs.append(Interval.of_constant(constant))
        for value, found in zip(step.node.outputs, step.op.interval(step.call, inputs), strict=True):
            known[str(value.name)] = found
    return known
