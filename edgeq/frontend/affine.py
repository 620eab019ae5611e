"""Reading x · scale + shift off a node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Float64
from edgeq.frontend.editing import constant, is_op, static_shape


@dataclass(frozen=True)
class Affine:
    """y = x · scale + shift; both float64 and broadcastable against x, finite."""

    x: ir.Value
    scale: Float64
    shift: Float64


def affine_of(node: ir.Node) -> Affine | None:
    """The affine function that an Add, Sub, Mul, Div or Neg with one constant side computes, None for anything else."""
    if is_op(node, "Neg") and node.inputs[0] is not None:
        return _checked(node, Affine(node.inputs[0], np.array(-1.0), np.array(0.0)))
    if not is_op(node, "Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    a, b = constant(left), constant(right)
    if (a is None) == (b is None):
        return None
    if b is not None:
        return _checked(node, _right(node.op_type, left, b.astype(np.float64)))
    assert a is not None
    return _checked(node, _left(node.op_type, right, a.astype(np.float64)))


def _right(op_type: str, x: ir.Value, c: Float64) -> Affine | None:
    zero, one = np.array(0.0), np.array(1.0)
    if op_type in ("Add", "Sub"):
        return Affine(x, one, c if op_type == "Add" else -c)
    with np.errstate(all="ignore"):
        return Affine(x, c if op_type == "Mul" else 1.0 / c, zero)


def _left(op_type: str, x: ir.Value, c: Float64) -> Affine | None:
    if op_type == "Add":
        return Affine(x, np.array(1.0), c)
    if op_type == "Sub":
        return Affine(x, np.array(-1.0), c)
    return Affine(x, c, np.array(0.0)) if op_type == "Mul" else None


def _checked(node: ir.Node, affine: Affine | None) -> Affine | None:
    if affine is None or affine.x.dtype != ir.DataType.FLOAT:
        return None
    shape = static_shape(affine.x)
    if shape is None or static_shape(node.outputs[0]) != shape:
        return None
    return affine if np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all() else None
