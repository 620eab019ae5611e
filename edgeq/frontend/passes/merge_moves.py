"""Chains of Reshape and Transpose become one transposition with a Reshape at each end, where that is shorter."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import NodePass, is_op, only_use, static_shape
from edgeq.frontend.views import LARGEST, MOVES, View, moved, numbering, view_of


class MergeMoves(NodePass):
    """Exporters write heads of attention with two or three Reshapes and Transposes more than it takes."""

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at a node that ends a chain."""
        if not is_op(node, *MOVES) or _continues(node):
            return False
        nodes = _chain(node)
        source = nodes[0].inputs[0]
        before, after = static_shape(source), static_shape(node.outputs[0])
        if source is None or not before or after is None or len(nodes) < 2 or math.prod(before) > LARGEST:
            return False
        view = _view(nodes, before)
        if view is None or view.nodes(before) >= len(nodes):
            return False
        view.write(Chain(graph, node, source)).replace(node)
        return True


def _continues(node: ir.Node) -> bool:
    follower = only_use(node.outputs[0])
    return follower is not None and is_op(follower, *MOVES) and not node.outputs[0].metadata_props.get("edgeq.scale")


def _chain(node: ir.Node) -> list[ir.Node]:
    """The movements that lead to `node`, first one first; values in between have no other reader and no scale."""
    nodes = [node]
    while True:
        value = nodes[0].inputs[0]
        maker = None if value is None else value.producer()
        if maker is None or value is None or not is_op(maker, *MOVES) or only_use(value) is None:
            return nodes
        if value.metadata_props.get("edgeq.scale"):
            return nodes
        nodes.insert(0, maker)


def _view(nodes: list[ir.Node], shape: tuple[int, ...]) -> View | None:
    elements = numbering(shape)
    for node in nodes:
        found = moved(node, elements)
        if found is None:
            return None
        elements = found
    return view_of(elements)
