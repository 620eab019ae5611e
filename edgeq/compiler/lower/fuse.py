"""Which nodes become one kernel: an accumulating op takes its requantize, then a table, then a residual add.

Fusion never changes a bit: the fused kernel rounds where the graph rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

ACCUMULATING = {
    "Conv", "ConvS16", "ConvTranspose", "Gemm", "GemmS16", "MatMul", "Mul", "SumPool", "ReduceSum",
}  # fmt: skip
REQUANTIZE = {"Requantize", "RequantizeNarrow"}
# The axis of their accumulators that kernels can scale entry by entry; the others scale any.
SCALED_AXIS = {"Conv": 1, "ConvS16": 1, "ConvTranspose": 1, "Gemm": -1, "GemmS16": -1, "MatMul": -1}
# Families whose kernels take a whole Epilogue; the others fuse the requantize only.
WHOLE_EPILOGUE = {"Conv", "ConvS16", "Gemm", "GemmS16"}


@dataclass
class Group:
    """One or more nodes that become one kernel (or no kernel at all: a view).

    Attributes:
        main: the node that names the work.
        requantize, lut, add: what was fused behind it.
        residual: the other side of `add`.
    """

    main: ir.Node
    requantize: ir.Node | None = None
    lut: ir.Node | None = None
    add: ir.Node | None = None
    residual: ir.Value | None = None
    nodes: list[ir.Node] = field(default_factory=list)

    @property
    def output(self) -> ir.Value:
        """The value the group makes (its first, for ops with several)."""
        return self.nodes[-1].outputs[0]

    @property
    def intermediate(self) -> ir.Value:
        """The value after requantize and table, before the residual add."""
        last = self.lut or self.requantize or self.main
        return last.outputs[0]

    @property
    def op(self) -> str:
        """Op type of the main node."""
        return str(self.main.op_type)

    @property
    def name(self) -> str:
        """The layer's name for reports."""
        return self.main.name or self.output.name or self.op

    @property
    def ops(self) -> tuple[str, ...]:
        """Op types of all nodes, in order."""
        return tuple(node.op_type for node in self.nodes)


def is_edgeq(node: ir.Node) -> bool:
    """Whether the node is an op of the integer dialect."""
    return bool(node.domain == "edgeq")


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only node that reads the value, unless the graph's caller reads it too."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    user = uses[0]
    return user.node if hasattr(user, "node") else user[0]


def group_nodes(graph: ir.Graph) -> list[Group]:
    """All nodes of the graph as groups, each after everything it reads."""
    order = {id(node): index for index, node in enumerate(graph)}
    taken: set[int] = set()
    groups: list[Group] = []
    for node in graph:
        if id(node) in taken:
            continue
        group = _start(node)
        taken.update(id(n) for n in group.nodes)
        groups.append(group)
    _fuse_residuals(groups, order)
    groups.sort(key=lambda g: order[id(g.nodes[-1])])
    return groups


def _start(node: ir.Node) -> Group:
    group = Group(node, nodes=[node])
    if not (is_edgeq(node) and node.op_type in ACCUMULATING):
        return group
    follower = sole_consumer(node.outputs[0])
    if follower is None or not is_edgeq(follower) or follower.op_type not in REQUANTIZE:
        return group
    if follower.inputs[0] is not node.outputs[0] or not _scales_fit(node, follower):
        return group
    group.requantize = follower
    group.nodes.append(follower)
    if node.op_type in WHOLE_EPILOGUE:
        _take_table(group)
    return group


def scale_shape(requantize: ir.Node) -> tuple[int, ...]:
    """The shape that a requantize's multipliers and shifts broadcast to together, with the accumulators' rank."""
    acc, *scales = (tuple(int(n) for n in value.shape) for value in requantize.inputs)
    shape = np.broadcast_shapes(*scales)
    return (1,) * (len(acc) - len(shape)) + shape


def _scales_fit(node: ir.Node, requantize: ir.Node) -> bool:
    """Whether the node's kernel can requantize with these constants."""
    shape = scale_shape(requantize)
    varied = {axis for axis, n in enumerate(shape) if n > 1}
    if node.op_type == "SumPool":
        return 1 not in varied or len(varied) == 1
    axis = SCALED_AXIS.get(node.op_type)
    return axis is None or varied <= {axis % len(shape)}


def _take_table(group: Group) -> None:
    value = group.output
    follower = sole_consumer(value)
    if follower is None or not is_edgeq(follower) or follower.op_type != "Lut" or follower.inputs[0] is not value:
        return
    table = follower.inputs[1]
    if table is None or table.const_value is None or tuple(table.const_value.shape) != (256,):
        return
    if value.dtype == ir.DataType.INT8 and follower.outputs[0].dtype == ir.DataType.INT8:
        group.lut = follower
        group.nodes.append(follower)


def _fuse_residuals(groups: list[Group], order: dict[int, int]) -> None:
    """Residual adds go into the convolution that ends later, so that the other side is there when it runs."""
    by_output = {id(g.output): g for g in groups}
    for group in list(groups):
        if group.op != "Add" or not is_edgeq(group.main):
            continue
        left, right = group.main.inputs
        candidates = []
        for value, other in ((left, right), (right, left)):
            if value is None or other is None or value is other or not _addable(value, other, group.output):
                continue
            producer = by_output.get(id(value))
            if producer is not None and producer.add is None and _can_add(producer):
                candidates.append((order[id(producer.nodes[-1])], producer, other))
        if not candidates:
            continue
        _, producer, other = max(candidates, key=lambda c: c[0])
        producer.add, producer.residual = group.main, other
        producer.nodes.append(group.main)
        groups.remove(group)
        by_output[id(producer.output)] = producer


def _can_add(group: Group) -> bool:
    return (
        is_edgeq(group.main)
        and group.op in WHOLE_EPILOGUE
        and group.requantize is not None
        and sole_consumer(group.output) is not None
    )


def _addable(value: ir.Value, other: ir.Value, result: ir.Value) -> bool:
    eight = ir.DataType.INT8
    same = value.shape is not None and other.shape is not None and tuple(value.shape) == tuple(other.shape)
    return same and value.dtype == other.dtype == result.dtype == eight and other.const_value is None
