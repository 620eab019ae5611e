"""Where a layer's activations have two values and its weights ±a: both become bits, if that is estimated to pay."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import onnx_ir as ir

from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.bits.conv import BitConvSpec, magnitudes
from edgeq.compiler.kernels.bits.pack import WORD, PackBitsSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.lower.context import NHWC, Lowering
from edgeq.compiler.lower.fuse import is_edgeq
from edgeq.compiler.lower.select.attributes import integer
from edgeq.compiler.program import View

# Standard ops whose output holds no value that their first input doesn't hold.
_PICKS = (
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Slice",
    "Split",
    "Expand",
    "ReduceMax",
)


def levels_of(value: ir.Value | None) -> tuple[int, int] | None:
    """The two integers that a value of the graph can have, the smaller one first, by the op that makes it."""
    maker = None if value is None else value.producer()
    while maker is not None and maker.op_type in _PICKS and not is_edgeq(maker):
        value = maker.inputs[0]
        maker = None if value is None else value.producer()
    if maker is None or not is_edgeq(maker):
        return None
    if maker.op_type == "Lut":
        table = maker.inputs[1]
        entries: list[int] = []
        if table is not None and table.const_value is not None:
            entries = np.unique(table.const_value.numpy()).tolist()
        return (entries[0], entries[1]) if len(entries) == 2 else None
    if {"low", "high"} <= maker.attributes.keys():
        low, high = integer(maker, "low"), integer(maker, "high")
        return (low, high) if high - low == 1 else None
    return None


def as_bits(
    ctx: Lowering,
    value: ir.Value | None,
    source: View,
    direct: ConvSpec,
    constants: dict[str, np.ndarray],
    storage: Storage,
) -> tuple[BitConvSpec, View] | None:
    """The layer over bits, and the view that holds them; emits the step that packs them. None: bytes are better, or
    it can't be.

    Args:
        source: what `direct` reads, padding included.
        direct: the layer over bytes.
        constants: of the layer, as `ConvSpec.pack` takes them.
    """
    levels = levels_of(value)
    products = getattr(ctx.target.inner, "BITS", ())
    suits = products and direct.x_dtype == "u8" and direct.groups == 1 and direct.x.c % WORD == 0
    if levels is None or value is None or not suits or magnitudes(constants["w"]) is None:
        return None
    stored = (levels[0] + source.bias, levels[1] + source.bias)
    padded = source.elements != int(np.prod([int(n) for n in value.shape or ()]))
    if stored[0] < 0 or stored[1] > 255 or (padded and direct.x_zero_point not in stored):
        return None
    x = direct.x
    shape = (x.n, x.c // 8, x.h, x.w)
    own = {field.name: getattr(direct, field.name) for field in fields(direct)}
    image = Image.dense(x.n, x.h, x.w, x.c // 8)
    spec = BitConvSpec(**own | {"x": image, "levels": stored, "depth": 0, "steps": (), "bits": 8})
    packing = PackBitsSpec(x, image, stored)
    if spec.cost(ctx.target) + packing.cost() >= direct.fitted(ctx.target, constants["w"], storage).cost(ctx.target):
        return None

    def pack() -> View:
        packed = ctx.allocate(f"{value.name} bits", shape, "u8", 0, NHWC)
        ctx.step(packing, {"x": source, "y": packed}, ops=("PackBits",))
        return packed

    return spec, ctx.derived(value, f"{packing} from {source.offset}", pack)
