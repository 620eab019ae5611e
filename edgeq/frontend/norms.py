"""Reading the parts of a normalization off a graph: means, squares, roots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import constant, constant_input, integer, is_op, static_shape

#: Local function of the float graph: x · scale / sqrt(mean(x²) + epsilon) over the last axis.
RMS_NORM = "RmsNormalization"


def last_axis_reduction(value: ir.Value | None, op_type: str) -> ir.Value | None:
    """What `value` is reduced from, if it is a mean (sum, norm …) over the last axis that keeps it."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, op_type) or not integer(node, "keepdims", 1):
        return None
    source = node.inputs[0]
    shape, axes = static_shape(source), constant_input(node, 1)
    if source is None or shape is None:
        return None
    given = [] if axes is None else axes.reshape(-1).tolist()
    if "axes" in node.attributes:
        given = list(node.attributes["axes"].as_ints())
    return source if [axis % len(shape) for axis in given] == [len(shape) - 1] else None


def squared(value: ir.Value | None) -> ir.Value | None:
    """x, if `value` is x² (a product with itself, or a power)."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    if is_op(node, "Mul") and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    return node.inputs[0] if is_op(node, "Pow") and scalar(node.inputs[1]) == 2.0 else None


def scalar(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


@dataclass(frozen=True)
class Ratio:
    """numerator / sqrt(radicand + epsilon)"""

    numerator: ir.Value
    radicand: ir.Value
    epsilon: float


def ratio_to_root(node: ir.Node) -> Ratio | None:
    """Read a quotient by a square root, or a product with its reciprocal, off its last node."""
    if is_op(node, "Div") and node.inputs[0] is not None:
        return _over(node.inputs[0], node.inputs[1])
    if not is_op(node, "Mul"):
        return None
    for numerator, factor in (node.inputs, tuple(reversed(node.inputs))):
        maker = None if factor is None else factor.producer()
        if maker is None or numerator is None:
            continue
        if is_op(maker, "Reciprocal"):
            found = _over(numerator, maker.inputs[0])
        elif is_op(maker, "Div") and scalar(maker.inputs[0]) == 1.0:
            found = _over(numerator, maker.inputs[1])
        elif is_op(maker, "Pow") and scalar(maker.inputs[1]) == -0.5:
            found = _with_epsilon(numerator, maker.inputs[0])
        else:
            found = None
        if found is not None:
            return found
    return None


def _over(numerator: ir.Value, root: ir.Value | None) -> Ratio | None:
    maker = None if root is None else root.producer()
    if maker is not None and is_op(maker, "Sqrt"):
        return _with_epsilon(numerator, maker.inputs[0])
    if maker is not None and is_op(maker, "Pow") and scalar(maker.inputs[1]) == 0.5:
        return _with_epsilon(numerator, maker.inputs[0])
    return None


def _with_epsilon(numerator: ir.Value, radicand: ir.Value | None) -> Ratio | None:
    maker = None if radicand is None else radicand.producer()
    if is_op(maker, "Add"):
        assert maker is not None
        for value, other in (maker.inputs, tuple(reversed(maker.inputs))):
            epsilon = scalar(other)
            if value is not None and epsilon is not None and epsilon >= 0:
                return Ratio(numerator, value, epsilon)
    return None if radicand is None else Ratio(numerator, radicand, 0.0)


def channel_vector(value: ir.Value | None, channels: int) -> Array | None:
    """A constant that varies along the last axis only, as float32 [channels]; scalars are spread."""
    array = constant(value)
    if array is None or array.dtype.kind != "f":
        return None
    if array.size == 1:
        return np.full(channels, array.reshape(()), np.float32)
    one_axis = array.shape[-1] == channels and array.size == channels
    return array.reshape(channels).astype(np.float32) if one_axis else None
