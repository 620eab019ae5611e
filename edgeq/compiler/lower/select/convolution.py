"""Conv, ConvS16, ConvTranspose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.transpose import input_padding, phases
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.lower.context import Lowering, constant_of
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.place import convolution_pads
from edgeq.compiler.lower.select.attributes import integer, ints, stored_epilogue
from edgeq.compiler.lower.select.bits import as_bits
from edgeq.compiler.lower.select.choice import Layer, choose, decide
from edgeq.compiler.lower.select.forms import depthwise_candidates, depthwise_key


def lower_conv(ctx: Lowering, group: Group) -> None:
    """A dense, grouped or depthwise convolution over an image that holds its own padding."""
    node = group.main
    weights = constant_of(node.inputs[1], node)
    groups = integer(node, "group", 1)
    zero_point = integer(node, "x_zero_point")
    assert node.inputs[0] is not None
    source, x = ctx.padded_image(node.inputs[0], convolution_pads(node), zero_point)
    out = ctx.output(group.output)
    y = out.image()
    assert y is not None
    epilogue, constants, views = stored_epilogue(ctx, group, out)
    constants |= {"w": weights, "bias": constant_of(node.inputs[2], node).reshape(-1).astype(np.int32)}
    (stride_h, stride_w), (dilation_h, dilation_w) = ints(node, "strides", (1, 1)), ints(node, "dilations", (1, 1))
    common = {
        "x": x,
        "y": y,
        "x_dtype": source.dtype,
        "kh": weights.shape[2],
        "kw": weights.shape[3],
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h": dilation_h,
        "dilation_w": dilation_w,
        "epilogue": epilogue,
        "x_zero_point": zero_point + source.bias,
    }
    storage = ctx.storage_of(node)
    spec: Layer
    if groups == 1 and (found := as_bits(ctx, node.inputs[0], source, ConvSpec(**common), constants, storage)):
        spec, source = found
    else:
        spec = _spec(ctx, common, groups, constants, storage)
    ctx.step(spec, {"x": source, "y": out, **views}, constants, spec.macs)


def _spec(
    ctx: Lowering, common: dict[str, Any], groups: int, constants: dict[str, np.ndarray], storage: Storage
) -> Layer:
    """The kernel: depthwise where every channel is a group of its own."""
    weights = constants["w"]
    if groups == common["x"].c and groups > 1:
        spec = DepthwiseSpec(**common).fitted(ctx.target, constants)
        return decide(ctx, depthwise_candidates(spec, ctx.target), depthwise_key(spec), constants)
    return choose(ctx, ConvSpec(**common, groups=groups).fitted(ctx.target, weights, storage), constants, storage)


def lower_conv_transpose(ctx: Lowering, group: Group) -> None:
    """One convolution for each phase of the output grid."""
    node = group.main
    groups, zero_point = integer(node, "group", 1), integer(node, "x_zero_point")
    assert node.inputs[0] is not None
    out = ctx.output(group.output)
    y = out.image()
    assert y is not None
    found = phases(
        constant_of(node.inputs[1], node),
        out.shape[2:],
        strides=ints(node, "strides", (1, 1)),
        pads=ints(node, "pads", (0, 0, 0, 0)),
        dilations=ints(node, "dilations", (1, 1)),
        group=groups,
    )
    plain = ctx.view(node.inputs[0], node)
    pads = input_padding(found, plain.shape[2:])
    source, padded = ctx.padded_image(node.inputs[0], pads, zero_point)
    epilogue, constants, _ = stored_epilogue(ctx, group, out)
    constants["bias"] = constant_of(node.inputs[2], node).reshape(-1).astype(np.int32)
    for phase in found:
        x, x_offset = phase.input_image(padded, pads)
        grid, y_offset = phase.output_image(y)
        common = {
            "x": x,
            "y": grid,
            "x_dtype": source.dtype,
            "kh": phase.rows.kernel,
            "kw": phase.columns.kernel,
            "dilation_h": phase.rows.dilation,
            "dilation_w": phase.columns.dilation,
            "epilogue": epilogue,
            "x_zero_point": zero_point + source.bias,
        }
        own = constants | {"w": phase.weights}
        spec = _spec(ctx, common, groups, own, ctx.storage_of(node))
        views = {
            "x": replace(source, offset=source.offset + x_offset),
            "y": replace(out, offset=out.offset + y_offset),
        }
        ctx.step(spec, views, own, spec.macs)


HANDLERS = {"Conv": lower_conv, "ConvS16": lower_conv, "ConvTranspose": lower_conv_transpose}
