"""Maximal elementwise sub-graphs that are functions of one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import constant, is_op, only_use, per_axis, static_shape
from edgeq.frontend.elementwise import EVALUATORS
from edgeq.frontend.unary import Step, UnaryFunction, operand_axis

# Ops that read one dynamic tensor by definition: alone, they are as good as a function of one op.
_SEVERAL_INPUTS = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min")
ONE_INPUT_OPS = frozenset(EVALUATORS) - {*_SEVERAL_INPUTS, "Mul", "Or", "Pow", "Sub", "Where"}
_AFFINE_OPS = frozenset({"Add", "Sub", "Mul", "Div", "Neg"})


@dataclass(frozen=True)
class Region:
    """The nodes between one value and the value computed from it elementwise, in graph order."""

    base: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]

    def function(self) -> UnaryFunction:
        """The region as an evaluable function; x is named 'x', the other values by their number."""
        shape = static_shape(self.base)
        assert shape is not None
        names = {self.base: "x"}
        steps, shapes = [], []
        for number, node in enumerate(self.nodes):
            operands: list[str | Array | None] = []
            for value in node.inputs:
                array = constant(value)
                operands.append(None if value is None else names[value] if array is None else array)
                shapes += [] if array is None else [array.shape]
            names[node.outputs[0]] = f"v{number}"
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            steps.append(Step(node.op_type, tuple(operands), attributes, f"v{number}"))
        _, axis = operand_axis(shapes, shape)
        channels = None if axis is None else shape[axis]
        return UnaryFunction("x", names[self.exit], tuple(steps), len(shape), axis, channels)

    def is_affine(self) -> bool:
        """True if the region is x · s + t by the look of its ops (products of x with itself are not)."""
        degree = {self.base: 1}
        for node in self.nodes:
            if node.op_type not in _AFFINE_OPS:
                return False
            degrees = [degree.get(value, 0) for value in node.inputs]
            product = node.op_type in ("Mul", "Div")
            if product and (sum(degrees) > 1 or (node.op_type == "Div" and degrees[1])):
                return False
            degree[node.outputs[0]] = 1
        return True


def lone_region(node: ir.Node) -> Region | None:
    """The region of one node, None if the node isn't a function of one tensor (checked as in `find_regions`)."""
    finder = _Finder([node])
    finder.assign(keep_biases=False)
    base = finder.base_of.get(node.outputs[0])
    return None if base is None else Region(base, node.outputs[0], (node,))


def find_regions(graph: ir.Graph) -> list[Region]:
    """Every maximal elementwise sub-graph with one non-constant float input, in graph order of their exits.

    An interior value that somebody outside reads becomes an exit of its own; if everything behind it goes
    through it, the region behind it starts there. A Relu or Clip that is the only reader of a computed value
    is left out at the start of a region, since it folds into that value's clamp; so is the bias of a MatMul.
    """
    finder = _Finder(list(graph))
    while True:
        finder.assign(keep_biases=True)
        regions = list(finder.regions())
        cuts = finder.dominating_exits(regions)
        if not cuts:
            return regions
        finder.cuts |= cuts


def made_by_tables(graph: ir.Graph) -> set[ir.Value]:
    """Values that are a non-linear elementwise function of one tensor: a table will make them."""
    finder = _Finder(list(graph))
    finder.assign(keep_biases=True)
    return {
        value
        for value, base in finder.base_of.items()
        if not Region(base, value, finder.cone(value, {base})).is_affine()
    }


def is_matmul_bias(node: ir.Node) -> bool:
    """True for the Add that is the bias of a MatMul with constant weights."""
    if not is_op(node, "Add"):
        return False
    sum_shape = static_shape(node.outputs[0])
    for value, other in (node.inputs, reversed(node.inputs)):
        if value is None:
            continue
        producer = value.producer()
        bias, shape = constant(other), static_shape(value)
        if bias is None or shape is None or not is_op(producer, "MatMul") or only_use(value) is not node:
            continue
        assert producer is not None
        if weight_source(producer.inputs[1]) is not None and sum_shape == shape:
            return per_axis(bias.astype(np.float64), len(shape), len(shape) - 1, shape[-1]) is not None
    return False


def weight_source(value: ir.Value | None) -> ir.Value | None:
    """The initializer behind a weight operand: itself, or what a DequantizeLinear in between reads."""
    if constant(value) is not None:
        return value
    producer = None if value is None else value.producer()
    if producer is not None and is_op(producer, "DequantizeLinear") and constant(producer.inputs[0]) is not None:
        return producer.inputs[0]
    return None


class _Finder:
    def __init__(self, nodes: Sequence[ir.Node]) -> None:
        self.nodes = nodes
        self.position = {node: k for k, node in enumerate(nodes)}
        self.cuts: set[ir.Value] = set()
        self.base_of: dict[ir.Value, ir.Value] = {}
        self.axis_of: dict[ir.Value, int | None] = {}

    def assign(self, *, keep_biases: bool) -> None:
        """For every value that is a function of one tensor: which tensor, and along which axis constants vary."""
        self.base_of, self.axis_of = {}, {}
        for node in self.nodes:
            if keep_biases and (self._folds_into_producer(node) or is_matmul_bias(node)):
                continue
            found = self._classify(node)
            if found is not None:
                self.base_of[node.outputs[0]], self.axis_of[node.outputs[0]] = found

    def _root(self, value: ir.Value) -> ir.Value:
        return value if value in self.cuts else self.base_of.get(value, value)

    def _folds_into_producer(self, node: ir.Node) -> bool:
        if not is_op(node, "Relu", "Clip") or node.inputs[0] is None:
            return False
        value = node.inputs[0]
        return self._root(value) is value and only_use(value) is node

    def _classify(self, node: ir.Node) -> tuple[ir.Value, int | None] | None:
        if node.domain or node.op_type not in EVALUATORS or len(node.outputs) != 1:
            return None
        dynamic = [value for value in node.inputs if value is not None and constant(value) is None]
        constants = [array.shape for array in map(constant, node.inputs) if array is not None]
        if not dynamic or node.outputs[0].dtype not in (ir.DataType.FLOAT, ir.DataType.BOOL):
            return None
        roots = {self._root(value) for value in dynamic}
        axes = {self.axis_of.get(value) for value in dynamic if value not in self.cuts} - {None}
        found = self._fits(node, dynamic, roots, axes, constants)
        if found is None and len(set(dynamic)) == 1:
            found = self._fits(node, dynamic, set(dynamic), set(), constants)
        return found

    @staticmethod
    def _fits(
        node: ir.Node,
        dynamic: Sequence[ir.Value],
        roots: set[ir.Value],
        axes: set[int | None],
        constants: Sequence[tuple[int, ...]],
    ) -> tuple[ir.Value, int | None] | None:
        if len(roots) != 1:
            return None
        (root,) = roots
        shape = static_shape(root)
        if root.dtype != ir.DataType.FLOAT or shape is None or static_shape(node.outputs[0]) != shape:
            return None
        if any(static_shape(value) != shape for value in dynamic):
            return None
        per_channel, axis = operand_axis(constants, shape)
        axes = axes | ({axis} - {None})
        if not per_channel or len(axes) > 1:
            return None
        return root, next(iter(axes), None)

    def _read_outside(self, value: ir.Value) -> bool:
        if value.is_graph_output() or value in self.cuts:
            return True
        base = self.base_of[value]
        return any(self.base_of.get(use.node.outputs[0]) is not base for use in value.uses())

    def regions(self) -> Iterator[Region]:
        """One region per exit."""
        for value, base in self.base_of.items():
            if value.dtype == ir.DataType.FLOAT and self._read_outside(value):
                yield Region(base, value, self.cone(value, {base}))

    def cone(self, value: ir.Value, stops: set[ir.Value]) -> tuple[ir.Node, ...]:
        """The nodes that compute `value` from `stops`, in graph order."""
        nodes: set[ir.Node] = set()
        stack = [value]
        while stack:
            node = stack.pop().producer()
            if node is None or node in nodes:
                continue
            nodes.add(node)
            stack += [v for v in node.inputs if v is not None and v not in stops and constant(v) is None]
        return tuple(sorted(nodes, key=self.position.__getitem__))

    def dominating_exits(self, regions: Sequence[Region]) -> set[ir.Value]:
        """Exits inside another region through which all of its paths go: that region should start there."""
        exits = {region.exit for region in regions}
        cuts = set()
        for region in regions:
            for node in region.nodes:
                inner = node.outputs[0]
                if inner is region.exit or inner not in exits or inner in self.cuts:
                    continue
                behind = self.cone(region.exit, {inner, region.base})
                if not any(region.base in other.inputs for other in behind):
                    cuts.add(inner)
        return cuts
