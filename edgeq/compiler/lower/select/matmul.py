"""Gemm and GemmS16 (constant right side) as pointwise convolutions; MatMul (both sides dynamic)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group, is_edgeq, sole_consumer
from edgeq.compiler.lower.select.attributes import integer, ints, rows_image, stored_epilogue
from edgeq.compiler.lower.select.bits import as_bits
from edgeq.compiler.lower.select.choice import Layer, choose, decide
from edgeq.compiler.lower.select.forms import matmul_candidates, matmul_key
from edgeq.compiler.lower.select.softmax import HANDLERS as SOFTMAX
from edgeq.compiler.program import View

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Expand", "Slice", "Split")


def lower_gemm(ctx: Lowering, group: Group) -> None:
    """x [..., K] · w [K, N]: every row is one pixel."""
    node = group.main
    value = node.inputs[0]
    assert value is not None
    weights = constant_of(node.inputs[1], node)
    source = ctx.view(value)
    x = rows_image(source)
    if x is None:
        source = ctx.row_major(value)
        x = rows_image(source)
    out = ctx.output(group.output, order=result_order(group))
    y = rows_image(out)
    if y is None:
        # A slice of a concatenation without even rows: compute densely, then copy.
        dense = ctx.allocate(f"{group.output.name} rows", out.shape, out.dtype, out.bias, tuple(range(len(out.shape))))
        y, target = rows_image(dense), dense
    else:
        target = out
    assert x is not None
    assert y is not None
    epilogue, constants, views = stored_epilogue(ctx, group, target)
    constants |= {
        "w": np.ascontiguousarray(weights.T)[:, :, None, None],
        "bias": constant_of(node.inputs[2], node).reshape(-1).astype(np.int32),
    }
    plain = ConvSpec(
        x=x,
        y=y,
        x_dtype=source.dtype,
        kh=1,
        kw=1,
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        groups=1,
        epilogue=epilogue,
        x_zero_point=integer(node, "x_zero_point") + source.bias,
    )
    storage = ctx.storage_of(node)
    spec: Layer
    if found := as_bits(ctx, value, source, plain, constants, storage):
        spec, source = found
    else:
        spec = choose(ctx, plain.fitted(ctx.target, constants["w"], storage), constants, storage)
    ctx.step(spec, {"x": source, "y": target, **views}, constants, macs=x.w * x.c * y.c)
    if target is not out:
        ctx.copy(target, out)


def lower_matmul(ctx: Lowering, group: Group) -> None:
    """Product of two computed tensors, batch axes broadcast; copies only what has no contiguous rows."""
    node = group.main
    a, b = (_with_rows(ctx, value, node, either) for value, either in zip(node.inputs[:2], (False, True), strict=True))
    result = ctx.output(group.output, order=result_order(group))
    out = result
    if out.shape[-1] > 1 and out.strides[-1] != 1:
        out = ctx.allocate(f"{group.output.name} rows", out.shape, out.dtype, out.bias, tuple(range(len(out.shape))))
    lead = out.shape[:-2]
    a, b = (v.broadcast_to((*lead, *v.shape[-2:])) for v in (a, b))
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    spec = MatMulSpec.of(
        out.shape,
        a.shape[-1],
        a.strides,
        b.strides,
        out.strides,
        a.dtype,
        b.dtype,
        integer(node, "a_zero_point") + a.bias,
        integer(node, "b_zero_point") + b.bias,
        epilogue,
        probability_bits=_probability_bits(node),
        b_extent=_extent(node),
    )
    chosen = decide(ctx, matmul_candidates(spec, ctx.target), matmul_key(spec), constants)
    ctx.step(chosen, {"a": a, "b": b, "y": out}, constants, chosen.macs)
    if out is not result:
        ctx.copy(out, result)


def _probability_bits(node: ir.Node) -> int:
    """Fraction bits of the left side where its rows are a softmax's, else 0."""
    value = node.inputs[0]
    maker = None if value is None else value.producer()
    if maker is None or not is_edgeq(maker) or maker.op_type not in SOFTMAX or value is None or value.shape is None:
        return 0
    zero = integer(maker, "zero_point")
    over_rows = integer(maker, "axis", -1) in (-1, len(value.shape) - 1)
    untouched = integer(maker, "low") <= zero == integer(node, "a_zero_point")
    return integer(maker, "out_bits") if over_rows and untouched else 0


def _extent(node: ir.Node) -> int:
    """Largest magnitude of the right side's s8 numbers, from the clamp of the op that makes them."""
    value = node.inputs[1]
    maker = None if value is None else value.producer()
    while maker is not None and maker.op_type in _MOVES and not is_edgeq(maker):
        value = maker.inputs[0]
        maker = None if value is None else value.producer()
    if maker is None or not is_edgeq(maker) or not {"low", "high"} <= maker.attributes.keys():
        return 128
    return max(-integer(maker, "low"), integer(maker, "high"))


def result_order(group: Group) -> tuple[int, ...]:
    """Axis order of a product in memory: as the Transpose behind it wants it (heads among channels), else rows."""
    plain = tuple(range(len(group.output.shape or ())))
    follower = sole_consumer(group.output)
    if follower is None or follower.op_type != "Transpose" or is_edgeq(follower):
        return plain
    axes = ints(follower, "perm", tuple(reversed(plain)))
    return axes if axes and axes[-1] == plain[-1] else plain


def _with_rows(ctx: Lowering, value: ir.Value | None, node: ir.Node, either: bool) -> View:
    """A matrix whose last axis (or, with `either`, one of the last two) is contiguous."""
    view = ctx.view(value, node)
    axes = (-1, -2) if either else (-1,)
    if any(view.shape[axis] == 1 or view.strides[axis] == 1 for axis in axes):
        return view
    assert value is not None
    return ctx.copied(value, "row-major", tuple(range(len(view.shape))))


HANDLERS = {"MatMul": lower_matmul, "Gemm": lower_gemm, "GemmS16": lower_gemm}
