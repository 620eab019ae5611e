"""Packed projections (queries, keys and values of one product) become products of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import NodePass, constant, constant_input, is_op, only_use, static_shape
from edgeq.frontend.regions import is_matmul_bias
from edgeq.frontend.views import LARGEST, View, moved, numbering, view_of


class SplitProjections(NodePass):
    """x·W whose columns go separate ways is several products, each with the columns of one way.

    Each part then has a scale of its own (queries, keys and values differ in range), and what selected it is a Reshape
    and a Transpose at most. The columns are found by sending their numbers through the data movement, so it doesn't
    matter how they are packed: [3, heads, size], [heads, 3, size], by Split, Slice or Gather.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one product with constant weights."""
        weight = constant_input(node, 1) if is_op(node, "MatMul") else None
        shape = static_shape(node.outputs[0])
        if weight is None or weight.ndim != 2 or shape is None or int(np.prod(shape)) > LARGEST:
            return False
        bias = only_use(node.outputs[0])
        last = bias if bias is not None and is_matmul_bias(bias) else node
        output = last.outputs[0]
        if output.is_graph_output() or output.metadata_props.get("edgeq.scale"):
            return False
        parts = list(_parts(output, numbering(shape)))
        views = [None if part is None else _view(part, shape) for part in parts]
        if len(views) < 2 or any(view is None for view in views):
            return False
        found = [view for view in views if view is not None]
        used = np.concatenate([view.columns for view in found])
        if len(np.unique(used)) != len(used):
            return False  # a column that two parts read would be computed twice
        for number, view in enumerate(found):
            _write(graph, node, last, view, number)
        return True


@dataclass(frozen=True)
class _Part:
    """An output of a selection and which elements of the product it holds."""

    value: ir.Value
    elements: Array


@dataclass(frozen=True)
class _Columns:
    """A part as a view of a product of some columns."""

    value: ir.Value
    columns: Array
    view: View


def _parts(value: ir.Value, elements: Array) -> Iterator[_Part | None]:
    """Where the elements of `value` are selected from; None for a reader that doesn't select or move."""
    for use in tuple(value.uses()):
        node = use.node
        selected = _select(node, elements) if use.idx == 0 else None
        if selected is not None:
            yield from (_Part(v, part) for v, part in zip(node.outputs, selected, strict=True) if v.uses())
            continue
        following = moved(node, elements) if use.idx == 0 and not node.outputs[0].is_graph_output() else None
        if following is None:
            yield None
        else:
            yield from _parts(node.outputs[0], following)


def _select(node: ir.Node, elements: Array) -> list[Array] | None:
    """The outputs of a Split, Slice or Gather with constant positions."""
    axis = node.attributes["axis"].as_int() % elements.ndim if "axis" in node.attributes else 0
    if is_op(node, "Split"):
        sizes = [static_shape(value) for value in node.outputs]
        if any(size is None for size in sizes):
            return None
        ends = np.cumsum([size[axis] for size in sizes if size is not None])
        return list(np.split(elements, ends[:-1], axis))
    if is_op(node, "Gather"):
        indices = constant_input(node, 1)
        return None if indices is None else [np.take(elements, indices, axis)]
    return None if not is_op(node, "Slice") else _slice(node, elements)


def _slice(node: ir.Node, elements: Array) -> list[Array] | None:
    starts, ends, axes, steps = (constant_input(node, k) for k in range(1, 5))
    if starts is None or ends is None:
        return None
    window = [slice(None)] * elements.ndim
    along: Sequence[int] = range(len(starts)) if axes is None else [int(a) for a in axes]
    for k, position in enumerate(along):
        step = 1 if steps is None else int(steps[k])
        if step < 1:
            return None
        window[position] = slice(int(starts[k]), int(ends[k]), step)
    return [elements[tuple(window)]]


def _view(part: _Part, product: tuple[int, ...]) -> _Columns | None:
    """How a product of the part's columns alone becomes the part; None if it takes more than a transposition."""
    total, rows = product[-1], int(np.prod(product[:-1]))
    columns = np.unique(part.elements % total)
    if part.elements.size != rows * len(columns) or len(columns) == total:
        return None
    # Number the elements as a product of these columns alone would.
    place = np.searchsorted(columns, part.elements % total) + (part.elements // total) * len(columns)
    view = view_of(place)
    return None if view is None else _Columns(part.value, columns, view)


def _write(graph: ir.Graph, product: ir.Node, last: ir.Node, part: _Columns, number: int) -> None:
    """The product of one part's columns, in front of whatever selected it."""
    weight, x = constant_input(product, 1), product.inputs[0]
    assert weight is not None
    assert x is not None
    reader = part.value.producer()
    assert reader is not None
    chain = Chain(graph, last, x, f".part{number}").op("MatMul", "", weight[:, part.columns])
    if last is not product:
        bias = constant(next(v for v in last.inputs if v is not product.outputs[0]))
        assert bias is not None
        spread = np.broadcast_to(bias.reshape(-1), (weight.shape[1],))
        chain = chain.op("Add", ".bias", spread[part.columns])
    part.value.replace_all_uses_with(part.view.write(chain).value, replace_graph_outputs=True)
