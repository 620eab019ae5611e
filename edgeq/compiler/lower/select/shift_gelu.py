"""ShiftGelu and ShiftGeluPaper."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.nonlinear.lut import LutSpec
from edgeq.compiler.kernels.nonlinear.shift_gelu import ShiftGeluPaperSpec, ShiftGeluSpec
from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.lower.select.elementwise import clamp
from edgeq.compiler.program import View
from edgeq.integer.shift_exp import ShiftGeluConstants, shift_gelu
from edgeq.integer.shift_gelu_paper import ShiftGeluPaperConstants


def lower_shift_gelu(ctx: Lowering, group: Group) -> None:
    """One byte has 256 results: a table of them. s16 elements are computed."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    constants = ShiftGeluConstants(**{f.name: integer(node, f.name) for f in fields(ShiftGeluConstants)})
    if source.dtype != "s16":
        table = gelu_table(constants, source, integer(node, "x_zero_point") + source.bias, out, clamp(group, out))
        lut = LutSpec.of(source.shape, source.strides, out.strides, source.dtype, out.dtype)
        ctx.step(lut, {"x": source, "y": out}, {"table": table})
        return
    spec = ShiftGeluSpec(source.shape, source.strides, out.strides, out.dtype, constants, **clamp(group, out))
    ctx.step(spec, {"x": source, "y": out})


def gelu_table(
    constants: ShiftGeluConstants, source: View, zero_point: int, out: View, clamps: dict[str, int]
) -> np.ndarray:
    """The op's result for every stored byte from the lowest on, as stored."""
    low, high = DTYPE_RANGE[source.dtype]
    results: np.ndarray = shift_gelu(np.arange(low, high + 1) - zero_point, constants) + clamps["zero_point"]
    return results.clip(clamps["low"], clamps["high"]).astype(NUMPY_DTYPE[out.dtype])


def lower_shift_gelu_paper(ctx: Lowering, group: Group) -> None:
    """By row."""
    node = group.main
    source = ctx.view(node.inputs[0], node)
    out = ctx.output(group.output, source)
    constants = ShiftGeluPaperConstants(**{f.name: integer(node, f.name) for f in fields(ShiftGeluPaperConstants)})
    spec = ShiftGeluPaperSpec.of(
        source.shape,
        source.strides,
        out.strides,
        source.dtype,
        out.dtype,
        constants,
        integer(node, "x_zero_point") + source.bias,
        **clamp(group, out),
    )
    ctx.step(spec, {"x": source, "y": out})


HANDLERS: dict[str, Any] = {"ShiftGelu": lower_shift_gelu, "ShiftGeluPaper": lower_shift_gelu_paper}
