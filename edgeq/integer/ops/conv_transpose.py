"""ConvTranspose: 2-D transposed convolution of s8 by s8, s32 out; weights [C, N/group, kh, kw] as in ONNX.

Defined by a Conv with stride 1: stride − 1 zero points between neighbours of x, the kernel turned by 180°, full padding
dilation·(k − 1), then `pads` cropped off and `output_padding` added at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body, Ref, ints
from edgeq.integer.intervals import Interval
from edgeq.integer.ops.convolution import (
    BIAS,
    GEOMETRY,
    WEIGHTS,
    check_channels,
    check_geometry,
    sum_interval,
    weight_sums,
)
from edgeq.integer.products import conv2d
from edgeq.integer.registry import S8, S32, Attribute, Call, Input, Op, TensorType, check_zero_point, register

Array = np.ndarray[Any, np.dtype[Any]]


def _sizes(call: Call) -> list[int]:
    x, w, a = call.type(0).shape, call.type(1).shape, call.attrs
    return [
        (x[2 + i] - 1) * a["strides"][i]
        + a["dilations"][i] * (w[2 + i] - 1)
        + 1
        + a["output_padding"][i]
        - a["pads"][i]
        - a["pads"][2 + i]
        for i in (0, 1)
    ]


def infer(call: Call) -> list[TensorType]:
    """[N, C, H, W], [C, M/group, kh, kw] -> s32 [N, M, OH, OW]."""
    check_geometry(call)
    x, w, a = call.type(0), call.type(1), call.attrs
    check_zero_point(call, "x_zero_point", x.dtype)
    if w.shape[0] != x.shape[1]:
        raise call.fail(f"{x.shape[1]} channels in, weights {list(w.shape)}")
    check_channels(call, x.shape[1], w.shape[0] // a["group"], w.shape[1] * a["group"])
    extra = a["output_padding"]
    if len(extra) != 2 or any(not 0 <= extra[i] < max(a["strides"][i], a["dilations"][i]) for i in (0, 1)):
        raise call.fail(f"output_padding {list(extra)} must be 2 numbers below the larger of stride and dilation")
    if min(_sizes(call)) < 1:
        raise call.fail(f"the pads leave no output: {_sizes(call)}")
    return [TensorType(S32, (x.shape[0], w.shape[1] * a["group"], *_sizes(call)))]


def as_convolution(w: Array, group: int) -> Array:
    """Weights [C, M/group, kh, kw] of a transposed convolution as those of its Conv: [M, C/group, kh, kw], turned."""
    channels, per_out = w.shape[:2]
    grouped = w.reshape(group, channels // group, per_out, *w.shape[2:]).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grouped.reshape(group * per_out, channels // group, *w.shape[2:])[:, :, ::-1, ::-1])


def reference(
    x: Array,
    w: Array,
    bias: Array,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    output_padding: Sequence[int],
    x_zero_point: int,
) -> Array:
    """The accumulator, int32."""
    batch, channels, *size = x.shape
    spread = np.full((batch, channels, *((n - 1) * s + 1 for n, s in zip(size, strides, strict=True))), x_zero_point)
    spread[:, :, :: strides[0], :: strides[1]] = x
    full = [dilations[i] * (w.shape[2 + i] - 1) for i in (0, 1)]
    around = (*full, *(full[i] + output_padding[i] for i in (0, 1)))
    acc = conv2d(spread, as_convolution(w, group), bias, x_zero_point, (1, 1), around, dilations, group)
    return acc[:, :, pads[0] : acc.shape[2] - pads[2], pads[1] : acc.shape[3] - pads[3]].astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """As Conv; every tap of the kernel could meet one output."""
    w, group = call.constant(1), call.attrs["group"]
    positive, negative = weight_sums(as_convolution(w, group), (0,))
    shape = (1, -1, 1, 1)
    x = inputs[0].shifted(-call.attrs["x_zero_point"])
    return [sum_interval(call, x, positive.reshape(shape), negative.reshape(shape), call.constant(2).astype(np.int64))]


def _turned_weights(b: Body, w: str) -> str:
    shape = b("Shape", w)
    channels, per_out = b("Gather", shape, b.vector(0)), b("Gather", shape, b.vector(1))
    kernel = b("Gather", shape, b.vector(2, 3))
    group = b("Reshape", b.attribute("group"), b.vector(1))
    per_in = b("Div", channels, group)
    split = b("Reshape", w, b("Concat", group, per_in, per_out, kernel, axis=0))
    swapped = b("Transpose", split, perm=[0, 2, 1, 3, 4])
    joined = b("Reshape", swapped, b("Concat", b("Mul", group, per_out), per_in, kernel, axis=0))
    return b("Slice", joined, b.vector(-1, -1), b.vector(-(2**31), -(2**31)), b.vector(2, 3), b.vector(-1, -1))


def _spread(b: Body, x: str, zero_point: str) -> str:
    """stride − 1 zero points behind every value, along both axes; those behind the last ones are cut off."""
    shape, strides = b("Shape", x), b.attribute_vector("strides")
    planes, size = b("Gather", shape, b.vector(0, 1)), b("Gather", shape, b.vector(2, 3))
    height, width = b("Gather", size, b.vector(0)), b("Gather", size, b.vector(1))
    one, none = b.vector(1), b.vector(0)
    apart = b("Reshape", x, b("Concat", planes, height, one, width, one, axis=0))
    gaps = b("Sub", strides, b.vector(1))
    down, across = b("Gather", gaps, b.vector(0)), b("Gather", gaps, b.vector(1))
    zeros5 = b.vector(0, 0, 0, 0, 0)
    pads = b("Concat", zeros5, none, none, none, none, down, none, across, axis=0)
    wide = b("Pad", apart, pads, zero_point)
    whole = b("Reshape", wide, b("Concat", planes, b("Mul", size, strides), axis=0))
    ends = b("Sub", b("Mul", size, strides), gaps)
    return b("Slice", whole, b.vector(0, 0), ends, b.vector(2, 3))


def body(b: Body, x: str, w: str, bias: str) -> str:
    """The defining Conv, by ConvInteger on the spread image, cropped afterwards."""
    zero_point = b.byte(b.attribute("x_zero_point"))
    kernel = b("Gather", b("Shape", w), b.vector(2, 3))
    full = b("Mul", b("Sub", kernel, b.vector(1)), b.attribute_vector("dilations"))
    ends = b("Add", full, b.attribute_vector("output_padding"))
    around = b("Concat", b.vector(0, 0), full, b.vector(0, 0), ends, axis=0)
    image = b("Pad", _spread(b, x, zero_point), around, zero_point)
    acc = b("ConvInteger", image, _turned_weights(b, w), zero_point, dilations=ints("dilations"), group=Ref("group"))
    begin, end = b.many("Split", 2, b.attribute_vector("pads"), num_outputs=2)
    size = b("Gather", b("Shape", acc), b.vector(2, 3))
    return b("Add", b("Slice", acc, begin, b("Sub", size, end), b.vector(2, 3)), bias)


OP = register(
    Op(
        "ConvTranspose",
        (Input("x", (S8,), rank=4), WEIGHTS, BIAS),
        (*GEOMETRY, Attribute("output_padding", "ints", (0, 0)), Attribute("x_zero_point", default=0)),
        infer,
        reference,
        interval,
        body,
    )
)
