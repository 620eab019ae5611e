"""LayerNorm and RmsNorm over the last axis."""

from __future__ import annotations

from typing import Any, Literal

from edgeq.compiler.kernels.nonlinear.norm import NormSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.lower.select.elementwise import clamp
from edgeq.compiler.program import View


def contiguous(view: View) -> bool:
    """Whether the last axis has no gaps."""
    return view.shape[-1] == 1 or view.strides[-1] == 1


def lower_norm(ctx: Lowering, group: Group) -> None:
    """Rows are read and written where they lie as long as their elements are neighbours."""
    node = group.main
    value = node.inputs[0]
    assert value is not None
    source = ctx.view(value, node)
    plain = tuple(range(len(source.shape)))
    if not contiguous(source):
        source = ctx.copied(value, "row-major", plain)
    result = ctx.output(group.output, source)
    out = result
    if not contiguous(out):
        out = ctx.allocate(f"{group.output.name} rows", out.shape, out.dtype, out.bias, plain)
    kind: Literal["layer", "rms"] = "layer" if group.op == "LayerNorm" else "rms"
    constants = {"gamma": constant_of(node.inputs[1], node)}
    zero_point = 0
    if kind == "layer":
        constants["beta"] = constant_of(node.inputs[2], node)
    else:
        zero_point = integer(node, "x_zero_point") + source.bias
    numbers = {name: integer(node, name) for name in ("epsilon", "row_bits", "fraction_bits", "shift")}
    spec = NormSpec.of(
        kind,
        source.shape,
        source.strides,
        out.strides,
        source.dtype,
        out.dtype,
        zero_point,
        **numbers,
        **clamp(group, out),
    )
    ctx.step(spec, {"x": source, "y": out}, constants)
    if out is not result:
        ctx.copy(out, result)


HANDLERS: dict[str, Any] = {"LayerNorm": lower_norm, "RmsNorm": lower_norm}
