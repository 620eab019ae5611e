"""Layer and root-mean-square normalization over the last axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.integer.normalization import norm_constants
from edgeq.quantize.integerize.emitter import Emitter, attribute
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.topology import Layer, constant, name_of, shape_of


@emits("LayerNormalization")
def emit_layer_norm(emitter: Emitter, layer: Layer) -> None:
    """LayerNormalization -> LayerNorm; int8 or int16 in and out."""
    rank = len(shape_of(layer.inputs[0]))
    if int(attribute(layer.node, "axis", -1)) % rank != rank - 1:
        raise emitter.unsupported(layer, "it normalises over more than the last axis")
    if any(value.uses() for value in layer.node.outputs[1:]):
        raise emitter.unsupported(layer, "its mean or deviation is used as well")
    gamma = _parameter(emitter, layer, 1, 1.0)
    _emit(emitter, layer, "LayerNorm", gamma, _parameter(emitter, layer, 2, 0.0))


@emits("RmsNormalization")
def emit_rms_norm(emitter: Emitter, layer: Layer) -> None:
    """RmsNormalization of the float graph -> RmsNorm."""
    _emit(emitter, layer, "RmsNorm", _parameter(emitter, layer, 1, 1.0), None)


def _parameter(emitter: Emitter, layer: Layer, position: int, default: float) -> NDArray[Any]:
    """A constant per channel."""
    channels, inputs = shape_of(layer.inputs[0])[-1], layer.node.inputs
    if len(inputs) <= position or inputs[position] is None:
        return np.full(channels, default)
    array = constant(inputs[position])
    if array is None or array.size not in (1, channels):
        raise emitter.unsupported(layer, "its scale or shift is computed, or not one number per channel")
    return np.broadcast_to(array.reshape(-1), (channels,))


def _emit(emitter: Emitter, layer: Layer, op: str, gamma: NDArray[Any], beta: NDArray[Any] | None) -> None:
    x, out = emitter.read(layer.inputs[0]), emitter.plan.quant(name_of(layer.output))
    constants = norm_constants(gamma, beta, float(attribute(layer.node, "epsilon", 1e-5)), x.quant.scale, out.scale)
    inputs = [x.value, emitter.builder.constant(constants.gamma, name=f"{layer.name}.gamma")]
    more: dict[str, Any] = {**constants.attributes(), **emitter.clamps(layer, out)}
    if beta is None:
        more["x_zero_point"] = x.quant.zero_point
    else:
        inputs.append(emitter.builder.constant(constants.beta, name=f"{layer.name}.beta"))
    result = emitter.emit(layer, op, inputs, **more)
    emitter.define(layer.output, result)
