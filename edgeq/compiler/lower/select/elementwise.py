"""Add, Max, Min, Mul, Div, Rescale, lone Requantize; Lut and LutInterp."""

from __future__ import annotations

from typing import Any, Literal, cast

import onnx_ir as ir

from edgeq.compiler.kernels.elementwise.binary import BinarySpec, RescaleSpec
from edgeq.compiler.kernels.elementwise.div import DivSpec
from edgeq.compiler.kernels.epilogue.requantize import MulSpec, RequantizeSpec
from edgeq.compiler.kernels.nonlinear.lut import LutInterpSpec, LutSpec
from edgeq.compiler.lower.context import Lowering, constant_of, shape_of
from edgeq.compiler.lower.fuse import Group, scale_shape
from edgeq.compiler.lower.select.attributes import integer, stored_epilogue, stored_table
from edgeq.compiler.program import View, row_major


def operands(ctx: Lowering, group: Group) -> tuple[View, View, View]:
    """The two sides, broadcast to the output's shape, and the output (in the first full-size side's axis order)."""
    left, right = (ctx.view(v, group.main) for v in group.main.inputs[:2])
    shape = shape_of(group.output)
    like = next((v for v in (left, right) if v.shape == shape and v.region == "arena"), None)
    out = ctx.output(group.output, like)
    return left.broadcast_to(shape), right.broadcast_to(shape), out


def clamp(group: Group, out: View) -> dict[str, Any]:
    """zero_point, low and high in stored units, from the node that rounds."""
    node = group.requantize or group.main
    return {key: integer(node, key) + out.bias for key in ("zero_point", "low", "high")}


def pair(node: ir.Node, left: View, right: View, out: View) -> dict[str, Any]:
    """What specs of two-sided ops share: shape, strides, dtypes and zero points in stored units."""
    return {
        "shape": out.shape,
        "a_strides": left.strides,
        "b_strides": right.strides,
        "y_strides": out.strides,
        "a_dtype": left.dtype,
        "b_dtype": right.dtype,
        "dtype": out.dtype,
        "a_zero_point": integer(node, "a_zero_point") + left.bias,
        "b_zero_point": integer(node, "b_zero_point") + right.bias,
    }


def lower_binary(ctx: Lowering, group: Group) -> None:
    """Add, Max, Min: each side has its multiplier, one shift."""
    node = group.main
    left, right, out = operands(ctx, group)
    spec = BinarySpec(
        op=cast(Literal["add", "max", "min"], node.op_type.lower()),
        **pair(node, left, right, out),
        a_multiplier=integer(node, "a_multiplier"),
        b_multiplier=integer(node, "b_multiplier"),
        shift=integer(node, "shift"),
        **clamp(group, out),
    )
    ctx.step(spec, {"a": left, "b": right, "y": out})


def lower_div(ctx: Lowering, group: Group) -> None:
    """Quotient of two computed tensors."""
    node = group.main
    left, right, out = operands(ctx, group)
    spec = DivSpec(
        **pair(node, left, right, out),
        multiplier=integer(node, "multiplier"),
        shift=integer(node, "shift"),
        **clamp(group, out),
    )
    ctx.step(spec, {"a": left, "b": right, "y": out})


def lower_rescale(ctx: Lowering, group: Group) -> None:
    """Another scale and zero point, maybe another width."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    spec = RescaleSpec(
        shape=out.shape,
        x_strides=source.strides,
        y_strides=out.strides,
        x_dtype=source.dtype,
        dtype=out.dtype,
        x_zero_point=integer(node, "x_zero_point") + source.bias,
        multiplier=integer(node, "multiplier"),
        shift=integer(node, "shift"),
        **clamp(group, out),
    )
    ctx.step(spec, {"x": source, "y": out})


def scale_strides(group: Group, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How the multiplier tensor moves along the output's axes."""
    node = group.requantize
    if node is None:
        return (0,) * len(shape)
    own = scale_shape(node)
    strides = View(0, "s32", own, row_major(own)).broadcast_to(shape).strides
    return tuple(stride if n > 1 else 0 for stride, n in zip(strides, shape, strict=True))


def lower_mul(ctx: Lowering, group: Group) -> None:
    """A product, requantized where a requantize follows."""
    node = group.main
    left, right, out = operands(ctx, group)
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    spec = MulSpec.of(
        out.shape,
        left.strides,
        right.strides,
        scale_strides(group, out.shape),
        out.strides,
        epilogue,
        constants,
        left.dtype,
        right.dtype,
        integer(node, "a_zero_point") + left.bias,
        integer(node, "b_zero_point") + right.bias,
    )
    ctx.step(spec, {"a": left, "b": right, "y": out}, constants)


def lower_requantize(ctx: Lowering, group: Group) -> None:
    """A requantize whose accumulators have several readers."""
    group.requantize = group.main
    source = ctx.view(group.main.inputs[0], group.main)
    out = ctx.output(group.output, source)
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    strides = scale_strides(group, out.shape)
    spec = RequantizeSpec.of(out.shape, source.strides, strides, out.strides, epilogue, constants, source.dtype)
    ctx.step(spec, {"x": source, "y": out}, constants)


def lower_lut(ctx: Lowering, group: Group) -> None:
    """A table of 256 entries, or one for each channel."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    table = constant_of(node.inputs[1], node)
    out = ctx.output(group.output, source)
    axis = integer(node, "axis", 1) if table.ndim == 2 else None
    spec = LutSpec.of(out.shape, source.strides, out.strides, source.dtype, out.dtype, axis)
    ctx.step(spec, {"x": source, "y": out}, {"table": stored_table(table, out.bias)})


def lower_lut_interp(ctx: Lowering, group: Group) -> None:
    """513 points with straight lines between them, for s16."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    spec = LutInterpSpec(out.shape, source.strides, out.strides, out.dtype, integer(node, "shift"), **clamp(group, out))
    ctx.step(spec, {"x": source, "y": out}, {"table": constant_of(node.inputs[1], node)})


HANDLERS: dict[str, Any] = {
    "Add": lower_binary,
    "Max": lower_binary,
    "Min": lower_binary,
    "Mul": lower_mul,
    "Div": lower_div,
    "Requantize": lower_requantize,
    "RequantizeNarrow": lower_requantize,
    "Rescale": lower_rescale,
    "Lut": lower_lut,
    "LutInterp": lower_lut_interp,
}
