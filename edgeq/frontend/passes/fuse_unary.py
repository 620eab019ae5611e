"""Gather each maximal elementwise sub-graph of one tensor into a local function, which becomes a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Float64
from edgeq.frontend.editing import replace_node
from edgeq.frontend.graph import FLOAT_DOMAIN, UNARY_PREFIX
from edgeq.frontend.regions import ONE_INPUT_OPS, Region, find_regions
from edgeq.frontend.unary import Step, UnaryFunction

LABEL_KEY = "edgeq.label"


class FuseUnary(ir.passes.InPlacePass):  # type: ignore[misc]
    """Each region becomes one node `edgeq.float::Unary_<n>`; equal regions share a function.

    A lone op with one input by definition (Sigmoid, Relu, Clip, PRelu …) stays as it is. The node and its
    function carry `edgeq.label` in their metadata, such as SiLU: the name of the function where it is a known one.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace every region by a call; the nodes it leaves without a reader are for the next sweep."""
        regions = [region for region in find_regions(model.graph) if _worth_a_function(region)]
        functions: dict[tuple[object, ...], tuple[ir.Function, str]] = {}
        # All bodies are read off the graph before any call changes it: regions may share nodes.
        calls = [(region, *self._function(model, region, functions)) for region in regions]
        replaced: dict[ir.Value, ir.Value] = {}
        for region, function, label in calls:
            self._call(model.graph, region, function, label, replaced)
        if calls:
            model.graph.opset_imports[FLOAT_DOMAIN] = 1
        return ir.passes.PassResult(model, bool(calls))

    @staticmethod
    def _function(
        model: ir.Model, region: Region, functions: dict[tuple[object, ...], tuple[ir.Function, str]]
    ) -> tuple[ir.Function, str]:
        body = region.function()
        key = _signature(body)
        if key not in functions:
            label = label_of(body, region)
            function = _build(body, len(functions), model.graph.opset_imports[""])
            function.metadata_props[LABEL_KEY] = label
            model.functions[function.identifier()] = function
            functions[key] = (function, label)
        return functions[key]

    @staticmethod
    def _call(
        graph: ir.Graph, region: Region, function: ir.Function, label: str, replaced: dict[ir.Value, ir.Value]
    ) -> None:
        last = region.exit.producer()
        assert last is not None
        call = ir.node(function.name, [replaced.get(region.base, region.base)], domain=FLOAT_DOMAIN, name=last.name)
        call.metadata_props[LABEL_KEY] = label
        replaced[region.exit] = call.outputs[0]
        replace_node(graph, last, [call])


def label_of(function: UnaryFunction, region: Region) -> str:
    """What a person would call the function: a known name if it agrees with it on [−6, 6], else its ops."""
    if function.axis is None:
        points = np.linspace(-6.0, 6.0, 61)
        found = function(points)
        for name, known in _KNOWN.items():
            expected = known(points)
            if np.allclose(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True):
                return name
    if region.is_affine():
        return "Affine"
    return "+".join(node.op_type for node in region.nodes)


def _op(op_type: str, **attributes: object) -> UnaryFunction:
    return UnaryFunction("x", "y", (Step(op_type, ("x",), attributes, "y"),), 1, None, None)


def _quick_gelu(x: Float64) -> Float64:
    return x * _op("Sigmoid")(1.702 * x)


_KNOWN: dict[str, Callable[[Float64], Float64]] = {
    "SiLU": _op("Swish"),
    "GELU": _op("Gelu"),
    "GELU(tanh)": _op("Gelu", approximate="tanh"),
    "QuickGELU": _quick_gelu,
    "HardSwish": _op("HardSwish"),
    "HardSigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "Mish": _op("Mish"),
    "Sigmoid": _op("Sigmoid"),
    "Tanh": _op("Tanh"),
    "Softplus": _op("Softplus"),
    "Softsign": _op("Softsign"),
    "ELU": _op("Elu"),
    "Abs": _op("Abs"),
    "Square": lambda x: x * x,
    "ReLU": _op("Relu"),
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
}


def _worth_a_function(region: Region) -> bool:
    return len(region.nodes) > 1 or region.nodes[0].op_type not in ONE_INPUT_OPS


def _signature(function: UnaryFunction) -> tuple[object, ...]:
    def operand(item: object) -> object:
        return (item.dtype.str, item.shape, item.tobytes()) if isinstance(item, np.ndarray) else item

    steps = [
        (step.op, tuple(map(operand, step.operands)), tuple(sorted((k, repr(v)) for k, v in step.attributes.items())))
        for step in function.steps
    ]
    return (*steps, function.axis, function.rank)


def _build(function: UnaryFunction, number: int, opset: int) -> ir.Function:
    source = ir.Value(name=function.input)
    values: dict[str, ir.Value] = {function.input: source}
    nodes: list[ir.Node] = []
    for step in function.steps:
        operands: list[ir.Value | None] = []
        for index, operand in enumerate(step.operands):
            if isinstance(operand, np.ndarray):
                node = ir.node("Constant", [], attributes={"value": ir.tensor(operand)})
                node.outputs[0].name = f"{step.result}_c{index}"
                nodes.append(node)
                operands.append(node.outputs[0])
            else:
                operands.append(values[operand] if isinstance(operand, str) else None)
        node = ir.node(step.op, operands, attributes=step.attributes or None)
        node.outputs[0].name = step.result
        values[step.result] = node.outputs[0]
        nodes.append(node)
    graph = ir.Graph(
        [source], [values[function.output]], nodes=nodes, opset_imports={"": opset}, name=f"{UNARY_PREFIX}{number}"
    )
    return ir.Function(FLOAT_DOMAIN, f"{UNARY_PREFIX}{number}", graph=graph, attributes=[])
