"""The float graph with roundings that can be switched on and off: what a quantization would do, in floating point.

Behind every tensor in question stands an If: one branch rounds to the tensor's int8 grid (QuantizeLinear,
DequantizeLinear), the other passes the value on. One session serves every combination.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeq.integer.graph import Quant
from edgeq.quantize.session import Session, map_ordered, model_with_outputs

Array = NDArray[Any]

_SUFFIX = "__rounded"
_SWITCH = "__switch"


class Simulation:
    """A float graph with switchable roundings.

    Args:
        model: the float graph.
        groups: by group name the values that are rounded together, each with its quantization (int8).
        outputs: values to look at; the rounded version where one is rounded itself.
    """

    def __init__(
        self,
        model: ir.Model,
        groups: Mapping[str, Mapping[str, Quant]],
        outputs: Sequence[str],
    ) -> None:
        proto = model_with_outputs(model, ())
        self.groups = list(groups)
        rounded = {value for members in groups.values() for value in members}
        _rewire(proto.graph, rounded)
        insertions = {
            value: _switch(value, f"{_SWITCH}{index}", quant)
            for index, members in enumerate(groups.values())
            for value, quant in members.items()
        }
        _insert(proto.graph, insertions)
        for index in range(len(self.groups)):
            proto.graph.input.append(helper.make_tensor_value_info(f"{_SWITCH}{index}", onnx.TensorProto.BOOL, []))
        names = [name + _SUFFIX if name in rounded else name for name in outputs]
        present = {output.name for output in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        self._session = Session(proto, names)

    def run(
        self, samples: Iterable[dict[str, Array]], active: Collection[str], threads: int | None = None
    ) -> list[list[Array]]:
        """Outputs per sample with the roundings of the groups in `active` switched on."""
        switches = {f"{_SWITCH}{i}": np.array(group in active) for i, group in enumerate(self.groups)}
        return list(map_ordered(lambda feeds: self._session.run({**feeds, **switches}), samples, threads))


def _rewire(graph: onnx.GraphProto, rounded: Collection[str]) -> None:
    """Let every reader of a rounded value read the rounded one."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in rounded:
                node.input[position] = name + _SUFFIX


def _switch(value: str, switch: str, quant: Quant) -> onnx.NodeProto:
    dtype = np.dtype(quant.dtype)
    scale = helper.make_node(
        "Constant", [], ["scale"], value=numpy_helper.from_array(np.array(quant.scale, np.float32))
    )
    zero = helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(quant.zero_point, dtype)))
    nodes = [scale, zero, helper.make_node("QuantizeLinear", [value, "scale", "zero"], ["integer"])]
    made = "integer"
    if quant.low is not None or quant.high is not None:
        ends = [np.array(limit, dtype) for limit in quant.limits]
        nodes += [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(end))
            for name, end in zip(("low", "high"), ends, strict=True)
        ]
        nodes.append(helper.make_node("Clip", [made, "low", "high"], ["clamped"]))
        made = "clamped"
    nodes.append(helper.make_node("DequantizeLinear", [made, "scale", "zero"], ["result"]))
    result = helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)
    through = helper.make_tensor_value_info("through", onnx.TensorProto.FLOAT, None)
    return helper.make_node(
        "If",
        [switch],
        [value + _SUFFIX],
        then_branch=helper.make_graph(nodes, "round", [], [result]),
        else_branch=helper.make_graph([helper.make_node("Identity", [value], ["through"])], "pass", [], [through]),
    )


def _insert(graph: onnx.GraphProto, insertions: dict[str, onnx.NodeProto]) -> None:
    """Put each switch right behind the node that makes its value (in front of everything for graph inputs)."""
    made = {name for node in graph.node for name in node.output}
    ordered = [node for value, node in insertions.items() if value not in made]
    for node in graph.node:
        ordered.append(node)
        ordered.extend(insertions[name] for name in node.output if name in insertions)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def normalised_error(reference: Sequence[Array], values: Sequence[Array]) -> float:
    """Σ (v − r)² / Σ (r − mean r)² over all samples of one output; 0/0 is 0, x/0 is infinite."""
    ref = np.concatenate([array.reshape(-1) for array in reference]).astype(np.float64)
    val = np.concatenate([array.reshape(-1) for array in values]).astype(np.float64)
    error, power = float(np.sum((val - ref) ** 2)), float(np.sum((ref - ref.mean()) ** 2))
    return error / power if power > 0 else (0.0 if error == 0 else float("inf"))


def largest_error(reference: Sequence[Sequence[Array]], values: Sequence[Sequence[Array]]) -> float:
    """The largest `normalised_error` among the outputs; both arguments are [sample][output]."""
    columns = zip(zip(*reference, strict=True), zip(*values, strict=True), strict=True)
    return max((normalised_error(ref, val) for ref, val in columns), default=0.0)
