"""What Conv, ConvS16 and ConvTranspose share: attributes, shape checks, the proof of their sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.integer.intervals import Interval, require
from edgeq.integer.registry import S8, S32, Attribute, Call, Input

Array = np.ndarray[Any, np.dtype[Any]]

WEIGHTS = Input("w", (S8,), rank=4, constant=True)
BIAS = Input("bias", (S32,), rank=4, constant=True)
GEOMETRY = (
    Attribute("strides", "ints", (1, 1)),
    Attribute("pads", "ints", (0, 0, 0, 0)),
    Attribute("dilations", "ints", (1, 1)),
    Attribute("group", default=1),
)


def check_geometry(call: Call) -> None:
    """Lengths and signs of strides, pads, dilations and group."""
    for name, length, least in (("strides", 2, 1), ("dilations", 2, 1), ("pads", 4, 0)):
        value = call.attrs.get(name)
        if value is not None and (len(value) != length or min(value) < least):
            raise call.fail(f"{name} {list(value)} must be {length} numbers of at least {least}")
    if call.attrs.get("group", 1) < 1:
        raise call.fail(f"group {call.attrs['group']} must be at least 1")


def check_channels(call: Call, channels: int, per_group: int, outputs: int) -> None:
    """Channels of image, weights and bias against the group count."""
    group = call.attrs["group"]
    if per_group * group != channels or outputs % group:
        raise call.fail(f"{channels} channels in, weights {list(call.type(1).shape)}, group {group} don't go together")
    if call.type(2).shape != (1, outputs, 1, 1):
        raise call.fail(f"bias is {call.type(2)}, it must be [1, {outputs}, 1, 1]")


def sum_interval(call: Call, x: Interval, positive: Array, negative: Array, bias: Array) -> Interval:
    """Interval of Σ w·x + bias per output channel, shaped like bias, every partial sum proven in 32 bits.

    Args:
        x: of x − zero point.
        positive, negative: sums of the positive and of the negative weights per channel, int64, shaped like bias.
    """
    reach = x.with_zero()  # zero: a product that is not added yet, or padding
    low = positive * reach.least + negative * reach.most
    high = positive * reach.most + negative * reach.least
    first = Interval.of(bias, bias)
    require(first.with_zero().plus(Interval.of(low, high)), call.where, "the accumulator")
    return first.plus(Interval.of(low, high))


def weight_sums(w: Array, channel_axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Sums of the positive and of the negative weights over all axes but channel_axes, int64, flattened."""
    wide = w.astype(np.int64)
    others = tuple(i for i in range(w.ndim) if i not in channel_axes)
    return np.maximum(wide, 0).sum(axis=others).ravel(), np.minimum(wide, 0).sum(axis=others).ravel()
