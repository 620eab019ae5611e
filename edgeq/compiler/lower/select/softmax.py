"""Softmax and Shiftmax, masked or not."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from edgeq.compiler.kernels.nonlinear.softmax import SoftmaxSpec
from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.lower.select.elementwise import clamp
from edgeq.integer.exp2 import SoftmaxConstants
from edgeq.integer.shift_exp import ShiftmaxConstants

_CONSTANTS: dict[str, type[SoftmaxConstants] | type[ShiftmaxConstants]] = {
    "Softmax": SoftmaxConstants,
    "MaskedSoftmax": SoftmaxConstants,
    "Shiftmax": ShiftmaxConstants,
    "MaskedShiftmax": ShiftmaxConstants,
}


def lower_softmax(ctx: Lowering, group: Group) -> None:
    """Probabilities over one axis."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    kind = _CONSTANTS[group.op]
    constants: SoftmaxConstants | ShiftmaxConstants = kind(**{f.name: integer(node, f.name) for f in fields(kind)})
    views, seen = {"x": source, "y": out}, None
    if group.op.startswith("Masked"):
        mask = ctx.view(node.inputs[1], node).broadcast_to(source.shape)
        views["mask"], seen = mask, (mask.strides, mask.dtype, mask.bias)
    spec = SoftmaxSpec.of(
        source.shape,
        integer(node, "axis", -1),
        source.strides,
        out.strides,
        source.dtype,
        out.dtype,
        constants,
        mask=seen,
        **clamp(group, out),
    )
    ctx.step(spec, views)


HANDLERS: dict[str, Any] = dict.fromkeys(_CONSTANTS, lower_softmax)
