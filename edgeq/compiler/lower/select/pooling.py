"""MaxPool and SumPool over windows of an image."""

from __future__ import annotations

from typing import Any

from edgeq.compiler.kernels.spatial.pool import MaxPoolSpec, SumPoolSpec, Window
from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer, ints, stored_epilogue
from edgeq.compiler.lower.select.elementwise import scale_strides


def window_of(group: Group) -> Window:
    """Kernel size, strides, leading pads and dilations of a pooling node."""
    node = group.main
    (kh, kw), (stride_h, stride_w) = ints(node, "kernel_shape", (1, 1)), ints(node, "strides", (1, 1))
    top, left, _, _ = ints(node, "pads", (0, 0, 0, 0))
    dilation_h, dilation_w = ints(node, "dilations", (1, 1))
    return Window(kh, kw, stride_h, stride_w, top, left, dilation_h, dilation_w)


def lower_max_pool(ctx: Lowering, group: Group) -> None:
    """The largest value of each window; pixels outside the image take no part."""
    value = group.main.inputs[0]
    assert value is not None
    source, x = ctx.image(value)
    with ctx.stored_like(group.output, source) as out:
        y = out.image()
        assert y is not None
        ctx.step(MaxPoolSpec(x, y, window_of(group), source.dtype), {"x": source, "y": out})


def lower_sum_pool(ctx: Lowering, group: Group) -> None:
    """The sum of each window, requantized where a requantize follows: an average."""
    node = group.main
    assert node.inputs[0] is not None
    source, x = ctx.image(node.inputs[0])
    out = ctx.output(group.output)
    y = out.image()
    assert y is not None
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    n, c, h, w = scale_strides(group, out.shape)
    zero_point = integer(node, "x_zero_point") + source.bias
    spec = SumPoolSpec.of(x, y, window_of(group), source.dtype, zero_point, (n, h, w, c), epilogue, constants)
    ctx.step(spec, {"x": source, "y": out}, constants)


HANDLERS: dict[str, Any] = {"MaxPool": lower_max_pool, "SumPool": lower_sum_pool}
