"""Axes counted from the front, written out, in one spelling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.editing import (
    NodePass,
    constant_input,
    initializer,
    integer,
    is_op,
    static_shape,
)

# Ops with one axis attribute that counts dimensions of input 0, and its default.
_ONE_AXIS = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "Concat": 0, "Split": 0, "Gather": 0, "GatherElements": 0,
    "ArgMax": 0, "ArgMin": 0, "TopK": -1, "LayerNormalization": -1,
}  # fmt: skip


class CanonicalAxes(NodePass):
    """Negative and implied axes become explicit ones.

    - an `axis` attribute is there and not negative.
    - Reduce*: the `axes` input is there, sorted, not negative.
    - Slice: starts, ends, axes, steps are all there, axes not negative; for steps over 0 starts and ends are clamped.
    - Pad: pads of every dimension, no axes.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        shape = static_shape(node.inputs[0]) if node.inputs else None
        if node.domain or shape is None:
            return False
        if node.op_type in _ONE_AXIS:
            given = node.attributes.get("axis")
            axis = integer(node, "axis", _ONE_AXIS[node.op_type]) % max(len(shape), 1)
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
            return given is None or given.as_int() != axis
        if node.op_type.startswith("Reduce"):
            return _reduction(graph, node, len(shape))
        if is_op(node, "Slice"):
            return _slice(graph, node, shape)
        return is_op(node, "Pad") and _pad(graph, node, len(shape))


def _reduction(graph: ir.Graph, node: ir.Node, rank: int) -> bool:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = np.zeros(0, np.int64) if given is None else constant_input(node, 1)
    if axes is None or (axes.size == 0 and integer(node, "noop_with_empty_axes", 0)):
        return False
    plain = np.sort(axes % rank) if axes.size else np.arange(rank)
    return _replace(graph, node, 1, plain, "axes")


def _slice(graph: ir.Graph, node: ir.Node, shape: tuple[int, ...]) -> bool:
    starts, ends = constant_input(node, 1), constant_input(node, 2)
    if starts is None or ends is None:
        return False
    axes = constant_input(node, 3) if len(node.inputs) > 3 and node.inputs[3] is not None else np.arange(starts.size)
    steps = constant_input(node, 4) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(starts.size)
    if axes is None or steps is None:
        return False
    axes, steps = axes % len(shape), steps.astype(np.int64)
    first, last = starts.astype(np.int64).copy(), ends.astype(np.int64).copy()
    for k, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        if step > 0:
            # Python's slices clamp as ONNX's do.
            first[k], last[k], _ = slice(int(starts[k]), int(ends[k])).indices(shape[axis])
    spelled = ((1, first, "starts"), (2, last, "ends"), (3, axes, "axes"), (4, steps, "steps"))
    changed = [_replace(graph, node, index, array, name) for index, array, name in spelled]
    return any(changed)


def _pad(graph: ir.Graph, node: ir.Node, rank: int) -> bool:
    axes, pads = constant_input(node, 3), constant_input(node, 1)
    if axes is None or pads is None:
        return False
    whole = np.zeros((2, rank), np.int64)
    whole[:, axes % rank] = pads.reshape(2, -1)
    node.resize_inputs(3)
    return _replace(graph, node, 1, whole.reshape(-1), "pads")


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray, name: str) -> bool:
    """Give the node this int64 constant at input `index`; False if it has just that."""
    old = constant_input(node, index)
    if old is not None and old.dtype == np.int64 and old.shape == array.shape and bool((old == array).all()):
        return False
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, initializer(graph, f"{node.name}.{name}", array.astype(np.int64)))
    return True
