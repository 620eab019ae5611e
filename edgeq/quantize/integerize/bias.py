"""Bias correction: what rounding the weights does to a layer's mean output goes into its bias.

The mean of (Ŵ − W)·x over calibration data is subtracted, with the same x for both (Nagel et al., "Data-free
quantization through weight equalization and bias correction", arXiv 1906.04721, the variant with data). Comparing with
the float network's output instead would fold clipping and heavy tails of the activations into the bias, which harms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.integerize.emitter import attribute
from edgeq.quantize.topology import Layer, constant, name_of, shape_of

Float = NDArray[np.float64]


def expected_taps(layer: Layer, means: dict[str, Float]) -> Float | None:
    """Mean input of every weight of a layer over calibration data and output positions.

    Args:
        layer: Conv, or MatMul with constant right side.
        means: per value the mean along every axis but the channels'.

    Returns:
        [output channels, fan-in], or None where the mean isn't known.
    """
    mean = means.get(name_of(layer.inputs[0])) if layer.inputs else None
    weights = constant(layer.node.inputs[1])
    if mean is None or weights is None or layer.op not in ("Conv", "MatMul"):
        return None
    if layer.op == "MatMul":
        return np.broadcast_to(mean, (weights.shape[1], weights.shape[0]))
    group = int(attribute(layer.node, "group", 1))
    outputs, per_group = weights.shape[:2]
    inputs = mean.reshape(group, per_group).repeat(outputs // group, axis=0)
    taps: Float = inputs[:, :, None, None] * _coverage(layer, weights.shape[2:])
    return taps.reshape(outputs, -1)


def _coverage(layer: Layer, kernel: Sequence[int]) -> Float:
    """Share of the output positions at which each tap of a kernel lies inside the image: [kh, kw]. Padding is zero."""
    image, output = shape_of(layer.inputs[0])[2:], shape_of(layer.node.outputs[0])[2:]
    strides = attribute(layer.node, "strides", [1, 1])
    dilations, pads = attribute(layer.node, "dilations", [1, 1]), attribute(layer.node, "pads", [0, 0, 0, 0])
    shares = []
    for axis in (0, 1):
        taps = np.arange(kernel[axis]) * dilations[axis] - pads[axis]
        positions = np.arange(output[axis])[:, None] * strides[axis] + taps
        shares.append(((positions >= 0) & (positions < image[axis])).mean(axis=0))
    return np.asarray(np.multiply.outer(*shares), dtype=np.float64)
