"""Gemm and GemmS16 (constant right side) as pointwise convolutions; MatMul (both sides dynamic)."""

from __future__ import annotations

import numpy as np

from edgeq.compiler.kernels.conv import ConvSpec
from edgeq.compiler.kernels.matmul import MatMulSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer, rows_image, stored_epilogue


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
    out = ctx.output(group.output)
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
    spec = ConvSpec(
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
    ctx.step(spec, {"x": source, "y": target, **views}, constants, macs=x.w * x.c * y.c)
    if target is not out:
        ctx.copy(target, out)


def lower_matmul(ctx: Lowering, group: Group) -> None:
    """Product of two computed tensors, batch axes broadcast."""
    node = group.main
    left, right = (ctx.view(value, node) for value in node.inputs[:2])
    out = ctx.output(group.output)
    lead = out.shape[:-2]
    a, b = (v.broadcast_to((*lead, *v.shape[-2:])) for v in (left, right))
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
        constants,
    )
    ctx.step(spec, {"a": a, "b": b, "y": out}, constants, macs=out.elements * a.shape[-1])


HANDLERS = {"MatMul": lower_matmul, "Gemm": lower_gemm, "GemmS16": lower_gemm}
