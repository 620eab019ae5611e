"""Runs an integer graph in NumPy, exactly: the definition that every other executor must match bit by bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgeq.errors import RunError
from edgeq.integer.graph import IntegerGraph, constant_of, tensor_type

Array = np.ndarray[Any, np.dtype[Any]]


def check_inputs(graph: IntegerGraph, inputs: Mapping[str, Array]) -> None:
    """Names, dtypes and shapes of the given inputs against the graph's.

    Raises:
        RunError: naming the input.
    """
    wanted = {v.name: tensor_type(v) for v in graph.inputs}
    for name in (*wanted, *inputs):
        if name not in inputs:
            raise RunError("an input is missing", where=name, why=f"given are {', '.join(inputs) or 'none'}")
        if name not in wanted:
            raise RunError("no such input", where=name, why=f"the graph has {', '.join(str(n) for n in wanted)}")
        found, expected = inputs[name], wanted[name]
        if found.dtype != expected.dtype or found.shape != expected.shape:
            raise RunError(
                "an input has the wrong type or shape",
                where=name,
                why=f"it is {found.dtype.name}{list(found.shape)}, the graph takes {expected}",
            )


def run(graph: IntegerGraph, inputs: Mapping[str, Array], *, keep: bool = False) -> dict[str, Array]:
    """Execute the graph.

    Args:
        graph: the integer graph.
        inputs: one array per graph input, of its dtype and shape.
        keep: return every value that the nodes compute, and the inputs, not only the outputs.

    Returns:
        name -> array.

    Raises:
        RunError: the inputs don't fit. ModelError: a node isn't valid.
    """
    check_inputs(graph, inputs)
    values: dict[str, Array] = {str(name): array for name, array in inputs.items()}
    constants = {name: constant_of(value) for name, value in graph.model.graph.initializers.items()}
    outputs = [str(v.name) for v in graph.outputs]
    left = Counter(v.name for node in graph.model.graph for v in node.inputs if v is not None)
    left.update(outputs)
    # Products are small: BLAS's threads would wait for one another longer than they compute.
    with threadpool_limits(1, "blas"):
        _execute(graph, values, constants, left, keep=keep)
    if keep:
        return values
    return {name: _output(name, values, constants) for name in outputs}


def _execute(
    graph: IntegerGraph,
    values: dict[str, Array],
    constants: Mapping[str, Array | None],
    left: Counter[str | None],
    *,
    keep: bool,
) -> None:
    """Adds what the nodes compute to `values`, and unless `keep` drops what has no reader left."""
    for step in graph.steps():
        operands: list[Array | None] = []
        for value in step.node.inputs:
            name = "" if value is None or value.name is None else value.name
            operands.append(values.get(name, constants.get(name)))
        found = step.op.reference(*operands, **step.call.attrs)
        results = found if isinstance(found, tuple) else (found,)
        for value, result in zip(step.node.outputs, results, strict=True):
            values[str(value.name)] = result
        if not keep:
            for value in step.node.inputs:
                if value is not None and value.name is not None:
                    left[value.name] -= 1
                    if left[value.name] == 0:
                        values.pop(value.name, None)


def _output(name: str, values: Mapping[str, Array], constants: Mapping[str, Array | None]) -> Array:
    found = values.get(name, constants.get(name))
    if found is None:
        raise RunError("a graph output was not computed", where=name)
    contiguous: Array = np.ascontiguousarray(found).reshape(found.shape)
    return contiguous
