"""SumPool: Σ (x − x_zero_point) over a window, s32 out; padding adds nothing. With a Requantize it is AveragePool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.integer.body import Body, ints
from edgeq.integer.intervals import Interval, require
from edgeq.integer.ops.convolution import check_geometry
from edgeq.integer.products import out_size, pad_image, windows
from edgeq.integer.registry import S32, SMALL, Attribute, Call, Input, Op, TensorType, check_zero_point, register

Array = np.ndarray[Any, np.dtype[Any]]


def infer(call: Call) -> list[TensorType]:
    """[N, C, H, W] -> s32 [N, C, OH, OW]."""
    check_geometry(call)
    x, a = call.type(0), call.attrs
    check_zero_point(call, "x_zero_point", x.dtype)
    kernel, pads = a["kernel_shape"], a["pads"]
    if len(kernel) != 2 or min(kernel) < 1:
        raise call.fail(f"kernel_shape {list(kernel)} must be 2 numbers of at least 1")
    size = [out_size(x.shape[2 + i], kernel[i], a["strides"][i], 1, pads[i] + pads[2 + i]) for i in (0, 1)]
    if min(size) < 1:
        raise call.fail(f"the window is larger than the padded image: output {size}")
    return [TensorType(S32, (*x.shape[:2], *size))]


def reference(
    x: Array, *, kernel_shape: Sequence[int], strides: Sequence[int], pads: Sequence[int], x_zero_point: int
) -> Array:
    """The sums, int32."""
    image = pad_image(x.astype(np.int32) - x_zero_point, pads)
    taps = windows(image, kernel_shape, strides, (1, 1))
    total = np.zeros((*taps.shape[:2], *taps.shape[4:]), dtype=np.int64)
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            total += taps[:, :, i, j]
    return total.astype(np.int32)


def interval(call: Call, inputs: Sequence[Interval]) -> list[Interval]:
    """Window size times the largest value, in 32 bits."""
    centred = inputs[0].shifted(-call.attrs["x_zero_point"]).collapse()
    count = int(np.prod(call.attrs["kernel_shape"]))
    return [require(centred.with_zero().scaled(count), call.where, "the sum over the window")]


def body(b: Body, x: str) -> str:
    """ConvInteger with a kernel of ones over every plane, on both halves of the 16-bit x − zero point."""
    shape = b("Shape", x)
    size = b("Gather", shape, b.vector(2, 3))
    planes = b("Reshape", b.offset(x, "x_zero_point"), b("Concat", b.vector(-1, 1), size, axis=0))
    high, low, low_zero = b.halves(planes)
    ones = b("Expand", b.byte(b.constant(1)), b("Concat", b.vector(1, 1), b.attribute_vector("kernel_shape"), axis=0))
    geometry = {name: ints(name) for name in ("strides", "pads")}
    sums = [
        b("ConvInteger", half, ones, zero, **geometry)
        for half, zero in ((high, b.byte(b.constant(0))), (low, low_zero))
    ]
    total = b.join_halves(*sums)
    out = b("Gather", b("Shape", total), b.vector(2, 3))
    return b("Reshape", total, b("Concat", b("Gather", shape, b.vector(0, 1)), out, axis=0))


OP = register(
    Op(
        "SumPool",
        (Input("x", SMALL, rank=4),),
        (
            Attribute("kernel_shape", "ints"),
            Attribute("strides", "ints", (1, 1)),
            Attribute("pads", "ints", (0, 0, 0, 0)),
            Attribute("x_zero_point", default=0),
        ),
        infer,
        reference,
        interval,
        body,
    )
)
