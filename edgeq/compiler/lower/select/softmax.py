"""Softmax in the `exp2` form."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from edgeq.compiler.kernels.softmax import SoftmaxSpec
from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.lower.select.elementwise import clamp
from edgeq.integer.exp2 import SoftmaxConstants


def lower_softmax(ctx: Lowering, group: Group) -> None:
    """Probabilities over one axis."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    constants = SoftmaxConstants(**{f.name: integer(node, f.name) for f in fields(SoftmaxConstants)})
    spec = SoftmaxSpec.of(
        source.shape,
        integer(node, "axis", -1),
        source.strides,
        out.strides,
        source.dtype,
        out.dtype,
        constants,
        **clamp(group, out),
    )
    ctx.step(spec, {"x": source, "y": out})


HANDLERS: dict[str, Any] = {"Softmax": lower_softmax}
