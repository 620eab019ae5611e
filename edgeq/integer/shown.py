"""Integer graphs that give out every value on the way, to find the op where two executions part."""

from __future__ import annotations

from typing import Any

from edgeq.integer.graph import IntegerGraph

#: How each op that makes 8- or 16-bit values from wider ones rounds.
FORMS = {
    "Requantize": "single: 32-bit multiplier, one rounding, half up",
    "RequantizeNarrow": "narrow: 16-bit multiplier, a rounding at each of three shifts, half up",
    "Rescale": "single: one rounding, half up",
    "Add": "one rounding of the sum, half up",
    "Max": "each side rounded, half up",
    "Min": "each side rounded, half up",
    "Lut": "table, nothing is rounded",
    "LutInterp": "table with interpolation, one rounding, half up",
}
_SHOWN = ("INT8", "UINT8", "INT16")


def show_values(graph: IntegerGraph) -> IntegerGraph:
    """A copy in which every 8- and 16-bit value is an output, behind the graph's own; the bits are the same."""
    result = IntegerGraph.from_bytes(graph.to_bytes())
    outputs = result.model.graph.outputs
    present = {value.name for value in outputs}
    for node in result.model.graph:
        for value in node.outputs:
            if value.dtype is not None and value.dtype.name in _SHOWN and value.name not in present:
                outputs.append(value)
    result.check()
    return result


def values_of(graph: IntegerGraph) -> list[dict[str, Any]]:
    """Name, node and op of every output, in the order they are computed; what travels in an artifact's manifest."""
    outputs = {value.name for value in graph.model.graph.outputs}
    return [
        {"name": value.name, "node": node.name or "", "op": node.op_type}
        for node in graph.model.graph
        for value in node.outputs
        if value.name in outputs
    ]
