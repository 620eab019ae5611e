"""Conv: 2-D convolution of s8 by s8, s32 out. acc = Σ w·(x − x_zero_point) + bias; padding adds nothing."""

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
from edgeq.integer.products import conv2d, out_size
from edgeq.integer.registry import S8, S32, Attribute, Call, Input, Op, TensorType, check_zero_point, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """[N, C, H, W], [M, C/group, kh, kw] -> s32 [N, M, OH, OW]."""
    check_geometry(call)
    x, w, a = call.type(0), call.type(1), call.attrs
    if "x_zero_point" in a:
        check_zero_point(call, "x_zero_point", x.dtype)
    check_channels(call, x.shape[1], w.shape[1], w.shape[0])
    pads = a["pads"]
    size = [
        out_size(x.shape[2 + i], w.shape[2 + i], a["strides"][i], a["dilations"][i], pads[i] + pads[2 + i])
        for i in (0, 1)
    ]
    if min(size) < 1:
        raise call.fail(f"the kernel is larger than the padded image: output {size}")
    return [TensorType(S32, (x.shape[0], w.shape[0], *size))]


def reference(
    x: Array,
    w: Array,
    bias: Array,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    x_zero_point: int = 0,
) -> Array:
    """The accumulator, int32."""
    return conv2d(x, w, bias, x_zero_point, strides, pads, dilations, group).astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Per output channel: Σ of w times the reach of x − zero point, plus bias, in 32 bits."""
    positive, negative = weight_sums(call.constant(1), (0,))
    shape = (1, -1, 1, 1)
    x = inputs[0].shifted(-call.attrs.get("x_zero_point", 0))
    return [sum_interval(call, x, positive.reshape(shape), negative.reshape(shape), call.constant(2).astype(np.int64))]


def body(b: Body, x: str, w: str, bias: str) -> str:
    """ConvInteger S8S8; it pads with x_zero_point."""
    zero_point = b.byte(b.attribute("x_zero_point"))
    return b("Add", convolve(b, x, w, zero_point), bias)


def convolve(b: Body, x: str, w: str, zero_point: str) -> str:
    """ConvInteger with the function's own geometry."""
    geometry = {name: ints(name) for name in ("strides", "pads", "dilations")}
    return b("ConvInteger", x, w, zero_point, **geometry, group=Ref("group"))


OP = register(
    Op(
        "Conv",
        (Input("x", (S8,), rank=4), WEIGHTS, BIAS),
        (*GEOMETRY, Attribute("x_zero_point", default=0)),
        infer,
        reference,
        interval,
        body,
    )
)
