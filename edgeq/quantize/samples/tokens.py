"""Which axis of a value counts tokens, so that calibration can leave padding out.

Padding tokens go through a transformer like any other, but nothing ever looks at what becomes of them: the attention
mask takes them out. Ranges that had to cover them would be wider for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.quantize.topology import Layer, Topology, constant, embedding_table, is_float, name_of, shape_of

_PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min")
_SAME = ("LayerNormalization", "RmsNormalization", "Softmax", "MaskedSoftmax", "Relu", "Clip", "Identity", "Cast")


@dataclass(frozen=True)
class Tokens:
    """Where padding is.

    Attributes:
        mask: name of the integer input [1, tokens] that is not 0 where a token is real.
        axes: by value name the axis that counts tokens.
    """

    mask: str
    axes: Mapping[str, int]

    def real(self, feeds: Mapping[str, NDArray[np.generic]]) -> NDArray[np.bool_] | None:
        """[tokens], True where real; None where nothing or everything is masked out."""
        found = np.asarray(feeds[self.mask]).reshape(-1) != 0
        return found if found.any() and not found.all() else None


def find_tokens(topology: Topology) -> Tokens | None:
    """The attention mask among the inputs and the values it is about; None if there isn't exactly one such mask."""
    masks = _mask_inputs(topology)
    if len(masks) != 1:
        return None
    mask = masks.pop()
    shape = shape_of(mask)
    if len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
        return None
    axes: dict[str, int] = {}
    for layer in topology.layers:
        axis = _axis(layer, axes, shape[1])
        if axis is not None:
            axes.update({name_of(value): axis for value in layer.outputs if _has(value, axis, shape[1])})
    return Tokens(name_of(mask), axes) if axes else None


def _mask_inputs(topology: Topology) -> set[ir.Value]:
    """Integer graph inputs that masked softmaxes go back to."""
    found: set[ir.Value] = set()
    stack = [value for layer in topology.layers if layer.op == "MaskedSoftmax" for value in layer.node.inputs[1:]]
    seen: set[str] = set()
    while stack:
        value = stack.pop()
        if value is None or constant(value) is not None or name_of(value) in seen:
            continue
        seen.add(name_of(value))
        if value.is_graph_input():
            found.add(value)
            continue
        stack.extend(topology.producer[name_of(value)].inputs)
    return {value for value in found if not is_float(value)}


def _axis(layer: Layer, axes: Mapping[str, int], tokens: int) -> int | None:
    """Axis of the layer's outputs that counts tokens."""
    if embedding_table(layer) is not None:
        indices = layer.node.inputs[1]
        shape = () if indices is None else shape_of(indices)
        return len(shape) - 1 if shape and shape[-1] == tokens else None
    known = [(value, axes[name_of(value)]) for value in layer.inputs if name_of(value) in axes]
    if not known:
        return None
    source, axis = known[0]
    rank = len(shape_of(layer.output))
    if layer.op in _PAIRS:
        from_right = {len(shape_of(value)) - place for value, place in known}
        return rank - from_right.pop() if len(from_right) == 1 else None
    if layer.op in _SAME or layer.op == "Unary":
        return axis
    if layer.op == "MatMul":
        rows = source is layer.node.inputs[0] and axis == len(shape_of(source)) - 2
        return rank - 2 if rows else None
    return _moved(layer, source, axis)


def _moved(layer: Layer, source: ir.Value, axis: int) -> int | None:
    if layer.op == "Transpose":
        perm = layer.node.attributes.get("perm")
        order = list(range(len(shape_of(source))))[::-1] if perm is None else list(perm.as_ints())
        return order.index(axis)
    if layer.op in ("Reshape", "Squeeze", "Unsqueeze"):
        before, after = shape_of(source), shape_of(layer.output)
        ahead = int(np.prod(before[:axis]))
        for place, size in enumerate(after):
            if size == before[axis] and int(np.prod(after[:place])) == ahead:
                return place
    return None


def _has(value: ir.Value, axis: int, tokens: int) -> bool:
    shape = shape_of(value)
    return 0 <= axis < len(shape) and shape[axis] == tokens
