"""Take out data movement that moves nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeq.frontend.editing import (
    NodePass,
    constant_input,
    initializer,
    ints,
    is_op,
    make_node,
    replace_node,
    static_shape,
    supersede,
    text,
)


class DropNoops(NodePass):
    """Identities in disguise go; a Transpose that only moves dimensions of size 1 becomes a Reshape.

    Reshape, Squeeze, Unsqueeze, Expand, Slice, Pad, Resize, Tile, Concat or Split of one, to the same shape;
    a Cast to the same dtype. A Reshape's target is written out in numbers, a Reshape of a Reshape reads through.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if node.domain or not node.inputs or node.inputs[0] is None:
            return False
        if is_op(node, "Identity"):
            return supersede(graph, node, node.inputs[0])
        before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        if is_op(node, "Transpose") and before is not None and after is not None and before != after:
            return _as_reshape(graph, node, before)
        if before is not None and after is not None and _moves_nothing(node, before, after):
            return supersede(graph, node, node.inputs[0])
        return is_op(node, "Reshape", "Squeeze", "Unsqueeze", "Flatten") and _plain_reshape(graph, node, after)


def _moves_nothing(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    if before != after or node.inputs[0] is None:
        return False
    if node.op_type in _WHEN:
        return _WHEN[node.op_type](node, before)
    return is_op(node, "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile")


def _steps_forward(node: ir.Node, before: tuple[int, ...]) -> bool:
    steps = constant_input(node, 4)
    return len(node.inputs) < 5 or (steps is not None and bool((steps == 1).all()))


def _pads_nothing(node: ir.Node, before: tuple[int, ...]) -> bool:
    pads = constant_input(node, 1)
    return pads is not None and not pads.any()


def _crops_nothing(node: ir.Node, before: tuple[int, ...]) -> bool:
    # tf_crop_and_resize could crop and enlarge to the same size.
    return text(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"


def _keeps_dtype(node: ir.Node, before: tuple[int, ...]) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and source.dtype == node.outputs[0].dtype


def _keeps_order(node: ir.Node, before: tuple[int, ...]) -> bool:
    """True if the dimensions larger than 1 stay in their order."""
    perm = ints(node, "perm", range(len(before))[::-1])
    return [k for k in perm if before[k] != 1] == [k for k, dim in enumerate(before) if dim != 1]


# When these, at equal shapes, do nothing.
_WHEN: dict[str, Callable[[ir.Node, tuple[int, ...]], bool]] = {
    "Cast": _keeps_dtype,
    "Concat": lambda node, before: len(node.inputs) == 1,
    "Pad": _pads_nothing,
    "Resize": _crops_nothing,
    "Slice": _steps_forward,
    "Split": lambda node, before: len(node.outputs) == 1,
    "Transpose": _keeps_order,
}


def _as_reshape(graph: ir.Graph, node: ir.Node, before: tuple[int, ...]) -> bool:
    if not _keeps_order(node, before):
        return False
    perm = ints(node, "perm", range(len(before))[::-1])
    _reshape(graph, node, node.inputs[0], [before[k] for k in perm])
    return True


def _plain_reshape(graph: ir.Graph, node: ir.Node, after: tuple[int, ...] | None) -> bool:
    if after is None:
        return False
    source, producer = node.inputs[0], node.inputs[0].producer()
    through = is_op(producer, "Reshape") and static_shape(producer.inputs[0]) is not None
    shape = constant_input(node, 1)
    plain = is_op(node, "Reshape") and shape is not None and tuple(int(dim) for dim in shape) == after
    if plain and not through:
        return False
    _reshape(graph, node, producer.inputs[0] if through else source, after)
    return True


def _reshape(graph: ir.Graph, node: ir.Node, source: ir.Value, shape: list[int] | tuple[int, ...]) -> None:
    target = initializer(graph, f"{node.outputs[0].name}.shape", np.array(shape, np.int64))
    new = make_node("Reshape", [source, target], name=node.name, shape=shape, dtype=source.dtype)
    replace_node(graph, node, [new])
