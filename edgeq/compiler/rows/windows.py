"""Which rows of its inputs an op needs for some rows of its output, and the op for just these rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.compiler.lower.fuse import is_edgeq

HEIGHT = 2  # axis of rows in [N, C, H, W]
WINDOWED = {"Conv", "ConvS16", "SumPool", "MaxPool"}
POINTWISE = {
    "Requantize", "RequantizeNarrow", "Rescale", "Add", "Mul", "Max", "Min", "LutInterp", "ShiftGelu",
}  # fmt: skip


@dataclass(frozen=True)
class RowWindow:
    """Rows [a, b) of the output read rows [a·stride − before, (b − 1)·stride − before + extent) of the input.

    Attributes:
        before: padding above the image; rows outside the image are padding.
    """

    stride: int = 1
    extent: int = 1
    before: int = 0

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """First row and the one behind the last; either may lie outside the image."""
        return start * self.stride - self.before, (stop - 1) * self.stride - self.before + self.extent


def height(value: ir.Value) -> int:
    """Rows of a rank-4 value."""
    assert value.shape is not None
    return int(value.shape[HEIGHT])


def row_bytes(value: ir.Value) -> int:
    """Bytes of one row."""
    assert value.shape is not None
    assert value.dtype is not None
    return int(value.shape[1]) * int(value.shape[3]) * int(value.dtype.itemsize)


def is_image(value: ir.Value | None) -> bool:
    """Whether a value is one image [1, C, H, W]."""
    return value is not None and value.shape is not None and len(value.shape) == 4 and value.shape[0] == 1


def row_windows(node: ir.Node) -> dict[int, RowWindow] | None:
    """The window of each input that isn't constant, by input number.

    None where rows can't be computed apart, or some row would see nothing but padding.
    """
    if len(node.outputs) != 1 or not is_image(node.outputs[0]):
        return None
    dynamic = [i for i, value in enumerate(node.inputs) if value is not None and value.const_value is None]
    if not dynamic or not all(is_image(node.inputs[i]) for i in dynamic):
        return None
    op = str(node.op_type)
    if op in WINDOWED:
        window = _window(node)
        last = window.needed(height(node.outputs[0]) - 1, height(node.outputs[0]))[0]
        inside = window.before < window.extent and last < height(node.inputs[0])
        return {0: window} if dynamic == [0] and inside else None
    if not _is_pointwise(node):
        return None
    rows = height(node.outputs[0])
    if any(height(node.inputs[i]) != rows for i in dynamic):
        return None
    return {i: RowWindow() for i in dynamic}


def _is_pointwise(node: ir.Node) -> bool:
    op = str(node.op_type)
    if is_edgeq(node):
        if op == "Lut":
            table = node.inputs[1]
            return table is not None and (len(table.shape or ()) == 1 or _axis(node) != HEIGHT)
        return op in POINTWISE
    return op == "Identity" or (op == "Concat" and _axis(node) in (1, 3))


def _axis(node: ir.Node) -> int:
    return int(node.attributes.get_int("axis", -1)) % 4


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    attribute = node.attributes.get(name)
    return default if attribute is None else tuple(int(n) for n in attribute.as_ints())


def _window(node: ir.Node) -> RowWindow:
    if "kernel_shape" in node.attributes:
        kernel = _ints(node, "kernel_shape", (1, 1))[0]
    else:
        weights = node.inputs[1]
        assert weights is not None
        assert weights.shape is not None
        kernel = int(weights.shape[2])
    dilation = _ints(node, "dilations", (1, 1))[0]
    return RowWindow(
        _ints(node, "strides", (1, 1))[0], (kernel - 1) * dilation + 1, _ints(node, "pads", (0, 0, 0, 0))[0]
    )


def attributes_for(node: ir.Node, above: int, below: int) -> list[ir.Attr]:
    """The node's attributes with as many rows of padding above and below as its rows need."""
    if str(node.op_type) not in WINDOWED:
        return list(node.attributes.values())
    _, left, _, right = _ints(node, "pads", (0, 0, 0, 0))
    kept = [attribute for name, attribute in node.attributes.items() if name != "pads"]
    return [*kept, ir.AttrInt64s("pads", [above, left, below, right])]


def constant_rows(node: ir.Node, value: ir.Value, start: int, stop: int) -> np.ndarray | None:
    """The part of an operand's constant that belongs to these rows of the output; None: it is the same for all."""
    assert value.const_value is not None
    shape, rows = tuple(value.const_value.shape), height(node.outputs[0])
    if str(node.op_type) not in POINTWISE or len(shape) < 2 or rows == 1 or int(shape[-2]) != rows:
        return None
    return np.ascontiguousarray(value.const_value.numpy()[..., start:stop, :])
