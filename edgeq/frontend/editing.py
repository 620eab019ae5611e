"""Small questions and edits on onnx_ir graphs that several passes share."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array, Float64


class NodePass(ir.passes.InPlacePass):  # type: ignore[misc]
    """A pass that looks at every node of the main graph once, in order, and may edit around it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Visit every node that is still in the graph when its turn comes."""
        modified = False
        for node in tuple(model.graph):
            if node.graph is not None:
                modified = self.visit(model.graph, node) or modified
        return ir.passes.PassResult(model, modified)

    @abc.abstractmethod
    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Edit around `node`; True if the graph changed."""


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """True if the node is one of these ops of the standard domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def constant(value: ir.Value | None) -> Array | None:
    """The array behind an initializer; None for anything that depends on an input."""
    if value is None or value.const_value is None or value.is_graph_input() or not value.is_initializer():
        return None
    array: Array = value.const_value.numpy()
    return array


def constant_input(node: ir.Node, index: int) -> Array | None:
    """The constant at input `index`, None if absent or dynamic."""
    return constant(node.inputs[index]) if index < len(node.inputs) else None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape if every dimension is a number."""
    if value is None or value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return tuple(int(dim) for dim in value.shape)


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Register `array` as an initializer under `name`, or under a name made unique from it."""
    unique, count = name, 1
    while unique in graph.initializers:
        unique, count = f"{name}_{count}", count + 1
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=unique)
    value = ir.Value(name=unique, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def only_use(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`, None if there are several reads or it leaves the graph."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def make_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    *,
    name: str | None,
    shape: Sequence[int] | None,
    dtype: ir.DataType | None,
    attributes: dict[str, object] | None = None,
) -> ir.Node:
    """A standard node with one output of known shape and dtype, not yet in a graph."""
    node = ir.node(op_type, list(inputs), attributes=attributes or {}, name=name)
    output = node.outputs[0]
    output.name = f"{name}.out" if name else None
    if shape is not None:
        output.shape = ir.Shape(shape)
    if dtype is not None:
        output.type = ir.TensorType(dtype)
    return node


def replace_node(graph: ir.Graph, node: ir.Node, new_nodes: Sequence[ir.Node]) -> None:
    """Put `new_nodes` in the place of a node with one output; the last output takes over name, shape, metadata."""
    old, new = node.outputs[0], new_nodes[-1].outputs[0]
    graph.insert_before(node, new_nodes)
    take_over(old, new)
    graph.remove(node, safe=True)


def supersede(graph: ir.Graph, node: ir.Node, replacement: ir.Value, *, changed: bool = False) -> bool:
    """Take out `node`; every reader of its first output reads `replacement`, which takes over its name and metadata.

    Use it when `replacement` now holds what the node's output held. False (and no change) where the graph's
    signature stands in the way: the output is a graph output and the replacement an input, constant or output.
    `changed` says that the replacement was computed differently before: what its metadata said is void.
    """
    old = node.outputs[0]
    fixed = replacement.producer() is None or replacement.is_graph_output()
    if fixed and old.is_graph_output():
        return False
    if fixed:
        old.replace_all_uses_with(replacement)
    else:
        if changed:
            replacement.metadata_props.clear()
        take_over(old, replacement)
    graph.remove(node, safe=True)
    return True


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Readers of `old` and graph outputs get `new`, with name, metadata, shape and type of `old`."""
    name, metadata = old.name, dict(old.metadata_props)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    new.name = name
    new.metadata_props.update(metadata)
    if old.shape is not None:
        new.shape = old.shape
    if old.type is not None:
        new.type = old.type


def per_axis(array: Float64, rank: int, axis: int, size: int) -> Float64 | None:
    """`array`, broadcast against a tensor of `rank` dimensions, as a vector along `axis`; None if it varies elsewhere.

    Args:
        array: a constant operand, rank at most `rank`.
        rank: rank of the other operand.
        axis: axis of the other operand, from 0.
        size: the other operand's size along `axis`.

    Returns:
        float64 [size].
    """
    if array.size == 1:
        return np.full(size, float(array.reshape(())), np.float64)
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(dim != 1 for k, dim in enumerate(shape) if k != axis) or shape[axis] != size:
        return None
    return array.reshape(size).astype(np.float64)


def ints(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """An integer list attribute, or the default."""
    attribute = node.attributes.get(name)
    return list(default) if attribute is None else [int(item) for item in attribute.as_ints()]


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, or the default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def real(node: ir.Node, name: str, default: float) -> float:
    """A float attribute, or the default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.as_float())


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute, or the default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else str(attribute.as_string())


def describe(node: ir.Node) -> str:
    """How messages name a node: its op and name, or its output where it has no name."""
    domain = f"{node.domain}." if node.domain else ""
    if node.name:
        return f"{domain}{node.op_type} '{node.name}'"
    output = next((value.name for value in node.outputs if value.name), "?")
    return f"{domain}{node.op_type} (output '{output}')"
