"""Writing a few nodes in front of another one: values with shapes that make the next value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.errors import ModelError
from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import describe, initializer, make_node, static_shape, take_over


@dataclass(frozen=True)
class Chain:
    """A value of static shape, and where new nodes go: in front of `node`, named after it.

    Attributes:
        graph: the graph that is edited.
        node: the node that will be replaced.
        value: the value so far.
        suffix: part of the names of everything made from here on.
    """

    graph: ir.Graph
    node: ir.Node
    value: ir.Value
    suffix: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape of the value.

        Raises:
            ModelError: it isn't known.
        """
        shape = static_shape(self.value)
        if shape is None:
            raise ModelError(f"{describe(self.node)} works on a tensor without static shape", where=describe(self.node))
        return shape

    def at(self, value: ir.Value) -> Chain:
        """Another value, same place."""
        return Chain(self.graph, self.node, value, self.suffix)

    def op(self, op_type: str, suffix: str, *others: Chain | ir.Value | Array, **attributes: object) -> Chain:
        """A node with this value as its first input.

        Args:
            op_type: MatMul, Expand (its second input the target), or an elementwise op.
            suffix: behind the node's name.
            others: further inputs; arrays become initializers.
            attributes: of the node.
        """
        name = f"{self.node.name}{self.suffix}{suffix}"
        inputs = [self.value, *(self._operand(other, f"{name}.{k}") for k, other in enumerate(others, start=1))]
        dtype = self.value.dtype
        shape = self._result_shape(op_type, inputs)
        node = make_node(op_type, inputs, name=name, shape=shape, dtype=dtype, attributes=attributes)
        return self._made(node)

    def where(self, condition: ir.Value, other: Array, *, suffix: str) -> Chain:
        """This value where `condition` holds, `other` elsewhere."""
        name = f"{self.node.name}{self.suffix}{suffix}"
        inputs = [condition, self.value, self._operand(other, f"{name}.other")]
        node = make_node("Where", inputs, name=name, shape=self._broadcast(inputs), dtype=self.value.dtype)
        return self._made(node)

    def transpose(self, *perm: int, suffix: str) -> Chain:
        """The axes in another order."""
        shape = [self.shape[k] for k in perm]
        name = f"{self.node.name}{self.suffix}{suffix}"
        attributes: dict[str, object] = {"perm": list(perm)}
        node = make_node(
            "Transpose", [self.value], name=name, shape=shape, dtype=self.value.dtype, attributes=attributes
        )
        return self._made(node)

    def reshape(self, shape: Sequence[int], *, suffix: str) -> Chain:
        """The same elements in another shape."""
        name = f"{self.node.name}{self.suffix}{suffix}"
        target = initializer(self.graph, f"{name}.shape", np.array(shape, np.int64))
        node = make_node("Reshape", [self.value, target], name=name, shape=shape, dtype=self.value.dtype)
        return self._made(node)

    def replace(self, node: ir.Node) -> None:
        """Put this value in the place of the first output of `node`, and take the node out."""
        take_over(node.outputs[0], self.value)
        self.graph.remove(node, safe=True)

    def _made(self, node: ir.Node) -> Chain:
        self.graph.insert_before(self.node, [node])
        return self.at(node.outputs[0])

    def _operand(self, other: Chain | ir.Value | Array, name: str) -> ir.Value:
        if isinstance(other, Chain):
            return other.value
        return initializer(self.graph, name, other) if isinstance(other, np.ndarray) else other

    def _result_shape(self, op_type: str, inputs: Sequence[ir.Value]) -> tuple[int, ...]:
        if op_type == "Expand":
            target = inputs[1].const_value
            assert target is not None
            return np.broadcast_shapes(self.shape, tuple(int(dim) for dim in target.numpy()))
        if op_type == "MatMul":
            left, right = self.shape, self.at(inputs[1]).shape
            return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])
        return self._broadcast(inputs)

    def _broadcast(self, inputs: Sequence[ir.Value]) -> tuple[int, ...]:
        return np.broadcast_shapes(*(self.at(value).shape for value in inputs))
