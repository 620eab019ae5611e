"""One model at several input shapes: from lists of shapes to programs, and whether short inputs may be padded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.errors import UsageError
from edgeq.integer import reference
from edgeq.integer.graph import IntegerGraph

Array = NDArray[Any]
Shape = tuple[int, ...]

MASKED = ("MaskedSoftmax", "MaskedShiftmax")
SOFTMAXES = (*MASKED, "Softmax", "Shiftmax")


def split_shapes(shapes: Mapping[str, Any] | None) -> list[dict[str, Shape]]:
    """The shapes of each program.

    Args:
        shapes: input name → one shape, or several: program i takes the i-th of every input. One shape is for all.

    Returns:
        At least one mapping.

    Raises:
        UsageError: inputs with different numbers of shapes, or two programs with the same.
    """
    listed: dict[str, list[Shape]] = {}
    for name, given in (shapes or {}).items():
        several = bool(given) and not isinstance(given[0], int | np.integer)
        listed[name] = [tuple(int(n) for n in shape) for shape in (given if several else [given])]
    counts = {len(found) for found in listed.values()} - {1}
    if len(counts) > 1:
        raise UsageError(
            "the inputs have different numbers of shapes",
            where="--shape",
            why=", ".join(f"{name}: {len(found)}" for name, found in listed.items()),
            hint="give each input one shape for every program, or one for all",
        )
    count = counts.pop() if counts else 1
    programs = [{name: found[i % len(found)] for name, found in listed.items()} for i in range(count)]
    if any(programs.count(program) > 1 for program in programs):
        raise UsageError("two programs have the same shapes", where="--shape", hint="leave one of them out")
    return programs


def fit_inputs(inputs: Mapping[str, Array], graph: IntegerGraph) -> dict[str, Array]:
    """Integer inputs cut, or padded with what stands for zero, to the shapes that a graph takes."""
    result = {}
    for value in graph.model.graph.inputs:
        array = inputs[str(value.name)]
        shape = _shape(value)
        kept = array[tuple(slice(size) for size in shape)]
        zero = graph.quant(str(value.name)).zero_point if "edgeq.scale" in value.metadata_props else 0
        widths = [(0, size - given) for size, given in zip(shape, kept.shape, strict=True)]
        result[str(value.name)] = np.pad(kept, widths, constant_values=zero)
    return result


def pads_exactly(graphs: Sequence[IntegerGraph], inputs: Sequence[Mapping[str, Array]]) -> bool:
    """Whether an input that is padded with zeros for a longer program gives what a program of its own length gives.

    The model must hide padding by a mask that is computed from an input, and the outputs that belong to the given
    elements must be the same, bit by bit, between neighbours in length on the given inputs.

    Args:
        graphs: the model at each shape.
        inputs: for each graph one input set, best of real data.
    """
    order = sorted(range(len(graphs)), key=lambda index: _elements(graphs[index]))
    if len(graphs) < 2 or not all(map(_masks_by_an_input, graphs)):
        return False
    return all(_same_when_padded(graphs[a], graphs[b], inputs[a]) for a, b in pairwise(order))


def _same_when_padded(short: IntegerGraph, long: IntegerGraph, inputs: Mapping[str, Array]) -> bool:
    pairs = list(zip(short.model.graph.inputs, long.model.graph.inputs, strict=True))
    sizes: dict[int, set[int]] = {}
    for one, other in pairs:
        for given, size in zip(_shape(one), _shape(other), strict=True):
            if given > size:
                return False
            if given < size:
                sizes.setdefault(size, set()).add(given)
    outputs = list(zip(short.model.graph.outputs, long.model.graph.outputs, strict=True))
    if any(len(given) != 1 for given in sizes.values()) or not all(_cuts_back(a, b, sizes) for a, b in outputs):
        return False
    expected, found = reference.run(short, dict(inputs)), reference.run(long, fit_inputs(inputs, long))
    return all(
        np.array_equal(found[name][tuple(slice(size) for size in array.shape)], array)
        for name, array in expected.items()
    )


def _cuts_back(one: ir.Value, other: ir.Value, sizes: Mapping[int, set[int]]) -> bool:
    """Whether the axes of an output that differ are those of the inputs, in length."""
    pairs = zip(_shape(one), _shape(other), strict=True)
    return all(given == size or sizes.get(size) == {given} for given, size in pairs)


def _masks_by_an_input(graph: IntegerGraph) -> bool:
    """Whether every softmax has a mask, and the mask comes from a graph input."""
    softmaxes = [node for node in graph.model.graph if node.domain == "edgeq" and node.op_type in SOFTMAXES]
    return bool(softmaxes) and all(n.op_type in MASKED and _comes_from_input(n.inputs[1]) for n in softmaxes)


def _comes_from_input(value: ir.Value | None) -> bool:
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        node = one.producer()
        if node is None:
            if one.is_graph_input():
                return True
        else:
            waiting += node.inputs
    return False


def _shape(value: ir.Value) -> Shape:
    assert value.shape is not None
    return tuple(int(size) for size in value.shape)


def _elements(graph: IntegerGraph) -> int:
    return sum(math.prod(_shape(value)) for value in graph.model.graph.inputs)
