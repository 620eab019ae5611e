"""Reading node attributes and the fused epilogue of a group."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.compiler.kernels.base import Epilogue, Image, Residual
from edgeq.compiler.lower.context import GRAPH_DTYPES, Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.program import View
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import narrow_left


def ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """An integer-list attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else tuple(int(v) for v in attribute.as_ints())


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else str(attribute.as_string())


def requantize_constants(node: ir.Node) -> dict[str, np.ndarray]:
    """`multiplier` and `shift` of a requantize node as flat int32 arrays of one length."""
    pair = np.broadcast_arrays(*(constant_of(value, node) for value in node.inputs[1:3]))
    return {key: array.reshape(-1).astype(np.int32) for key, array in zip(("multiplier", "shift"), pair, strict=True)}


def stored_epilogue(ctx: Lowering, group: Group, out: View) -> tuple[Epilogue, dict[str, np.ndarray], dict[str, View]]:
    """The group's epilogue in stored units, its constants, and the views of its extra operands.

    Every stage before the store is kept in the form `out` is stored in (with the same bias), so that a table or a
    residual add never converts.
    """
    node = group.requantize
    if node is None:
        return Epilogue("none", "s32", 0, -(2**31), 2**31 - 1), {}, {}
    constants = requantize_constants(node)
    bias = out.bias
    epilogue = Epilogue(
        form="narrow" if node.op_type == "RequantizeNarrow" else "single",
        dtype=out.dtype,
        zero_point=integer(node, "zero_point") + bias,
        low=integer(node, "low") + bias,
        high=integer(node, "high") + bias,
        post_shift=integer(node, "post_shift"),
        left=narrow_left(constants["shift"]) if node.op_type == "RequantizeNarrow" else 0,
        per_channel=constants["multiplier"].size > 1,
        lut=group.lut is not None,
        residual=_residual(ctx, group, bias),
    )
    views: dict[str, View] = {}
    if group.lut is not None:
        table = constant_of(group.lut.inputs[1], group.lut).reshape(-1)
        constants["table"] = stored_table(table, bias)
    if group.residual is not None:
        views["residual"] = ctx.image(group.residual)[0] if len(out.shape) == 4 else ctx.view(group.residual)
    return epilogue, constants, views


def stored_table(table: np.ndarray, bias: int) -> np.ndarray:
    """A table's entries as they are stored."""
    return (table.astype(np.int16) + bias).astype(np.uint8) if bias else table


def _residual(ctx: Lowering, group: Group, bias: int) -> Residual | None:
    node = group.add
    if node is None or group.residual is None:
        return None
    other = ctx.view(group.residual)
    image = ctx.image(group.residual)[1] if len(other.shape) == 4 else rows_image(other)
    if image is None:
        raise CompileError("a residual operand has no row form", where=f"node {node.name!r}")
    mine, theirs = ("a", "b") if node.inputs[1] is group.residual else ("b", "a")
    return Residual(
        image=image,
        dtype=other.dtype,
        a_zero_point=integer(node, f"{mine}_zero_point") + bias,
        b_zero_point=integer(node, f"{theirs}_zero_point") + other.bias,
        a_multiplier=integer(node, f"{mine}_multiplier"),
        b_multiplier=integer(node, f"{theirs}_multiplier"),
        shift=integer(node, "shift"),
        zero_point=integer(node, "zero_point") + bias,
        low=integer(node, "low") + bias,
        high=integer(node, "high") + bias,
    )


def rows_image(view: View) -> Image | None:
    """A view [..., K] with contiguous K and evenly spaced rows as an image of height 1, or None."""
    *lead, k = view.shape
    if k != 1 and view.strides[-1] != 1:
        return None
    rows = int(np.prod(lead, dtype=np.int64))
    flat = view.reshape((rows, k))
    if flat is None:
        return None
    stride = flat.strides[0] if rows > 1 else k
    return Image(1, 1, rows, k, rows * stride, rows * stride, stride)


def to_dtype(node: ir.Node) -> str:
    """The `to` attribute as an edgeq dtype."""
    return GRAPH_DTYPES[ir.DataType(integer(node, "to", int(ir.DataType.INT8)))]
