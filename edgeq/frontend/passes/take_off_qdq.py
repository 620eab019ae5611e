"""Take QuantizeLinear / DequantizeLinear pairs off and remember what they said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgeq.errors import UnsupportedOpError
from edgeq.frontend.editing import (
    NodePass,
    constant,
    describe,
    initializer,
    is_op,
    make_node,
    only_use,
    static_shape,
    supersede,
)

SCALE_KEY, ZERO_POINT_KEY, DTYPE_KEY = "edgeq.scale", "edgeq.zero_point", "edgeq.dtype"
LOW_KEY, HIGH_KEY = "edgeq.low", "edgeq.high"
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "Abs", "Exp", "HardSigmoid", "Sqrt", "Softplus")
_KEEP_SIGN = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Transpose", "Flatten", "Squeeze",
    "Unsqueeze", "Slice", "Split", "Resize", "DepthToSpace", "SpaceToDepth", "Concat", "ReduceMean", "ReduceMax",
)  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """What a Q or DQ says about a tensor: real = scale · (q − zero_point).

    `low` and `high` are there where the integers are clipped to a part of the type's range (4 bits, narrow ranges).
    """

    scale: float
    zero_point: int
    dtype: str
    low: int | None = None
    high: int | None = None

    def limits(self) -> tuple[float, float]:
        """The smallest and largest real number on the grid."""
        integers = np.iinfo(self.dtype)
        low = integers.min if self.low is None else self.low
        high = integers.max if self.high is None else self.high
        return self.scale * (low - self.zero_point), self.scale * (high - self.zero_point)

    def props(self) -> dict[str, str]:
        """As metadata of a value."""
        ends = {LOW_KEY: self.low, HIGH_KEY: self.high}
        return {
            SCALE_KEY: repr(self.scale),
            ZERO_POINT_KEY: str(self.zero_point),
            DTYPE_KEY: self.dtype,
            **{key: str(end) for key, end in ends.items() if end is not None},
        }


class TakeOffQdq(NodePass):
    """The float graph computes in float; what the file said about grids is metadata (constants are done before).

    - x → Q → DQ: readers read x, which gets `edgeq.scale`, `edgeq.zero_point` (decimal) and `edgeq.dtype`
      ("int8" …) in its metadata. A Clip of the integers between the two goes with them and becomes `edgeq.low`,
      `edgeq.high`: fewer bits than the type has, or a narrow range.
    - x that has a grid already and is brought to another one (a second quantizer in front of a sum): a Clip to the
      limits of the second grid carries it.
    - where the grid ends at zero, it stood for a ReLU: exporters drop a Relu or Clip that saturation does anyway.
      A Clip to the grid's limits takes its place, unless x can't be negative.
    - a graph input that only DQ reads, or an output that Q writes, becomes float, with the same metadata.

    Args:
        notes: gets a sentence for each decision a person should know.
    """

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if is_op(node, "QuantizeLinear") and constant(node.inputs[0]) is None:
            self._keep_clamp(graph, node)
            return self._quantized_output(graph, node)
        if is_op(node, "DequantizeLinear") and constant(node.inputs[0]) is None:
            return self._dequantize(graph, node)
        return False

    @staticmethod
    def _keep_clamp(graph: ir.Graph, node: ir.Node) -> None:
        grid, value = _grid(node, _clip_behind(node)), node.inputs[0]
        if grid is None or value is None or value.producer() is None:
            return
        low, high = grid.limits()
        if low < 0 < high or (low >= 0 and _never_negative(value)):
            return
        name = f"{node.name}.clamp"
        limits = [initializer(graph, f"{name}.{k}", np.array(v, np.float32)) for k, v in (("low", low), ("high", high))]
        clip = make_node("Clip", [value, *limits], name=name, shape=static_shape(value), dtype=value.dtype)
        graph.insert_before(node, [clip])
        node.replace_input_with(0, clip.outputs[0])

    def _dequantize(self, graph: ir.Graph, node: ir.Node) -> bool:
        source = node.inputs[0]
        assert source is not None
        if source.is_graph_input():
            return self._quantized_input(graph, node, source)
        quantize, clip = source.producer(), None
        if quantize is not None and is_op(quantize, "Clip"):
            clip = quantize
            quantize = None if clip.inputs[0] is None else clip.inputs[0].producer()
        if quantize is None or not is_op(quantize, "QuantizeLinear") or quantize.inputs[0] is None:
            return False
        original, grid = quantize.inputs[0], _grid(node, clip)
        if grid is None and clip is not None:
            raise UnsupportedOpError(
                f"{describe(quantize)} clips activations with a scale per channel",
                where=describe(quantize),
                why="activations have one scale and one zero point per tensor, and both are constants",
                hint="export the quantizer of this activation with a per-tensor scale",
            )
        if grid is not None and grid.props() != _noted(original) and _noted(original) and original.producer():
            original = _on_second_grid(graph, node, original, grid)
        self._remember(original, node, clip)
        return _read_original(graph, node, original)

    def _quantized_input(self, graph: ir.Graph, node: ir.Node, source: ir.Value) -> bool:
        if only_use(source) is not node:
            return False
        self._remember(source, node)
        source.type = ir.TensorType(ir.DataType.FLOAT)
        self.notes.append(f"Input '{source.name}' is quantized in the file; here it is given as real values.")
        return supersede(graph, node, source)

    def _quantized_output(self, graph: ir.Graph, node: ir.Node) -> bool:
        output, source = node.outputs[0], node.inputs[0]
        if source is None or not output.is_graph_output() or output.uses():
            return False
        self._remember(source, node)
        self.notes.append(f"Output '{output.name}' is quantized in the file; here it is real values.")
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), source.shape
        return supersede(graph, node, source)

    def _remember(self, value: ir.Value, node: ir.Node, clip: ir.Node | None = None) -> None:
        grid = _grid(node, clip)
        if grid is None:
            self.notes.append(f"The scale of '{value.name}' is not one constant number; it is calibrated instead.")
            return
        known = _noted(value)
        if known and known != grid.props():
            self.notes.append(f"'{value.name}' is quantized in two ways in the file; the first one is kept.")
            return
        value.metadata_props.update(grid.props())


def _noted(value: ir.Value) -> dict[str, str]:
    """What a value's metadata says about its grid."""
    keys = (SCALE_KEY, ZERO_POINT_KEY, DTYPE_KEY, LOW_KEY, HIGH_KEY)
    return {key: value.metadata_props[key] for key in keys if key in value.metadata_props}


def _on_second_grid(graph: ir.Graph, node: ir.Node, original: ir.Value, grid: Grid) -> ir.Value:
    """A copy of a value that has a grid of its own: a Clip to the second grid's limits, in front of `node`."""
    name = f"{node.name}.second"
    limits = [
        initializer(graph, f"{name}.{key}", np.array(limit, np.float32))
        for key, limit in zip(("low", "high"), grid.limits(), strict=True)
    ]
    clip = make_node("Clip", [original, *limits], name=name, shape=static_shape(original), dtype=original.dtype)
    graph.insert_before(node, [clip])
    return clip.outputs[0]


def _clip_behind(quantize: ir.Node) -> ir.Node | None:
    """The Clip of a Q's integers, if that is all that reads them."""
    reader = only_use(quantize.outputs[0])
    return reader if reader is not None and is_op(reader, "Clip") else None


def _grid(node: ir.Node, clip: ir.Node | None = None) -> Grid | None:
    """The grid of a Q or DQ node, None if it isn't one constant scale for the whole tensor.

    Args:
        node: the Q or DQ.
        clip: the Clip of the integers between the two, if there is one.
    """
    scale = constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero_point = np.zeros((), np.uint8) if given is None else constant(given)
    if scale is None or scale.size != 1 or zero_point is None or zero_point.dtype.kind not in "iu":
        return None
    grid = Grid(float(scale.reshape(())), int(zero_point.reshape(())), str(zero_point.dtype))
    return grid if clip is None else _clipped(grid, clip)


def _clipped(grid: Grid, clip: ir.Node) -> Grid | None:
    """A grid with the limits of a Clip; None where they aren't constants."""
    ends: list[int | None] = []
    for index, outermost in ((1, np.iinfo(grid.dtype).min), (2, np.iinfo(grid.dtype).max)):
        value = clip.inputs[index] if index < len(clip.inputs) else None
        limit = constant(value)
        if value is not None and (limit is None or limit.size != 1):
            return None
        found = outermost if limit is None else int(limit.reshape(()))
        ends.append(None if found == outermost else found)
    return replace(grid, low=ends[0], high=ends[1])


def _never_negative(value: ir.Value | None) -> bool:
    """True if the op that makes the value (through pools and data movement) can't make a negative number."""
    seen: set[ir.Node] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if value is not None and value.is_graph_input() and _said_never_negative(value):
            continue
        node = None if value is None else value.producer()
        while node is not None and is_op(node, "QuantizeLinear", "DequantizeLinear"):
            node = None if node.inputs[0] is None else node.inputs[0].producer()
        if node in seen:
            continue
        if node is None or not is_op(node, *_NEVER_NEGATIVE, *_KEEP_SIGN, "Clip"):
            return False
        seen.add(node)
        if is_op(node, "Clip"):
            low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
            if low is None or low < 0:
                return False
        elif not is_op(node, *_NEVER_NEGATIVE):
            stack += node.inputs if is_op(node, "Concat") else node.inputs[:1]
    return True


def _said_never_negative(value: ir.Value) -> bool:
    """True for a graph input whose own grid, already taken off, starts at zero: quantizing it clamps it."""
    props = value.metadata_props
    return SCALE_KEY in props and Grid(1.0, int(props[ZERO_POINT_KEY]), props[DTYPE_KEY]).limits()[0] >= 0


def _read_original(graph: ir.Graph, node: ir.Node, original: ir.Value) -> bool:
    """Let the readers of a DQ read what its Q read, which keeps its own name unless the DQ is a graph output."""
    output = node.outputs[0]
    if output.is_graph_output():
        return supersede(graph, node, original)
    output.replace_all_uses_with(original)
    graph.remove(node, safe=True)
    return True
