"""Convolutions: integer weights per output channel, s32 accumulator, one requantization with the clamp in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.quantize.integerize.bias import expected_taps
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.requantize import requantize
from edgeq.quantize.integerize.weights import QuantizedWeights, keep_integers, quantize_weights
from edgeq.quantize.plan import S16
from edgeq.quantize.topology import Layer, StoredIntegers, constant, name_of, stored_integers

Array = NDArray[Any]


@emits("Conv")
def emit_conv(emitter: Emitter, layer: Layer) -> None:
    """Conv -> Conv (int8 input) or ConvS16 (int16), Requantize."""
    x = emitter.read(layer.node.inputs[0])
    wide = x.quant.dtype == S16
    weights = _constant_weights(emitter, layer)
    quantized = layer_weights(emitter, layer, x, weights.reshape(len(weights), -1))
    geometry = _geometry(emitter, layer)
    if not wide:
        geometry["x_zero_point"] = x.quant.zero_point
    acc = emitter.emit(
        layer,
        "ConvS16" if wide else "Conv",
        [
            x.value,
            emitter.builder.constant(quantized.values.reshape(weights.shape), name=f"{layer.name}.weight"),
            emitter.builder.constant(quantized.bias.reshape(1, -1, 1, 1), name=f"{layer.name}.bias"),
        ],
        **geometry,
    )
    _finish(emitter, layer, acc, x, quantized)


@emits("ConvTranspose")
def emit_conv_transpose(emitter: Emitter, layer: Layer) -> None:
    """ConvTranspose -> ConvTranspose on int8, Requantize. Weights are [C, N/group, kh, kw]."""
    x = emitter.read_s8(layer.node.inputs[0])
    weights = _constant_weights(emitter, layer)
    group = int(attribute(layer.node, "group", 1))
    outputs = weights.shape[1] * group
    # [group, C/group, N/group, kh, kw] -> output channels (group, N/group) in front, and back afterwards.
    split = weights.reshape(group, -1, *weights.shape[1:])
    rows = split.transpose(0, 2, 1, 3, 4)
    quantized = layer_weights(emitter, layer, x, rows.reshape(outputs, -1))
    values = quantized.values.reshape(rows.shape).transpose(0, 2, 1, 3, 4).reshape(weights.shape)
    geometry = _geometry(emitter, layer)
    geometry["output_padding"] = list(attribute(layer.node, "output_padding", [0, 0]))
    acc = emitter.emit(
        layer,
        "ConvTranspose",
        [
            x.value,
            emitter.builder.constant(np.ascontiguousarray(values), name=f"{layer.name}.weight"),
            emitter.builder.constant(quantized.bias.reshape(1, -1, 1, 1), name=f"{layer.name}.bias"),
        ],
        x_zero_point=x.quant.zero_point,
        **geometry,
    )
    _finish(emitter, layer, acc, x, quantized)


def _constant_weights(emitter: Emitter, layer: Layer) -> Array:
    weights = constant(layer.node.inputs[1])
    if weights is None:
        raise emitter.unsupported(layer, "its weights are computed, not constant")
    if weights.ndim != 4:
        raise emitter.unsupported(layer, f"its kernel has {weights.ndim - 2} dimensions, two are supported")
    return weights


def _geometry(emitter: Emitter, layer: Layer) -> dict[str, Any]:
    node = layer.node
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", ""):
        raise emitter.unsupported(layer, "its padding is automatic", "load the model through edgeq.frontend.load")
    return {
        "strides": list(attribute(node, "strides", [1, 1])),
        "pads": list(attribute(node, "pads", [0, 0, 0, 0])),
        "dilations": list(attribute(node, "dilations", [1, 1])),
        "group": int(attribute(node, "group", 1)),
    }


def bias_of(layer: Layer) -> Array | None:
    """The layer's bias: third input of a convolution, or the constant of an Add behind a matrix product."""
    if layer.bias is not None:
        return constant(layer.bias)
    inputs: list[ir.Value | None] = list(layer.node.inputs)
    return constant(inputs[2]) if len(inputs) > 2 else None


def layer_weights(emitter: Emitter, layer: Layer, x: Operand, rows: Array) -> QuantizedWeights:
    """Quantized weights of a layer, reported.

    Args:
        x: the input. rows: float weights [output channels, fan-in].
    """
    policy, out = emitter.policy(layer), emitter.plan.quant(name_of(layer.output))
    bits, power_of_two = policy.weight_bits or 8, policy.scale == "pow2"
    bias = bias_of(layer)
    if bias is not None and bias.size == 1 and len(rows) != 1:
        bias = np.broadcast_to(bias.reshape(-1), (len(rows),))
    weight = layer.node.inputs[1]
    stored = None if weight is None else stored_integers(weight)
    quantized = None
    if stored is not None and layer.op == "Conv" and bits == 8 and not power_of_two:
        quantized = keep_integers(_as_rows(stored), bias, x_scale=x.quant.scale, x_extent=x.extent)
    if quantized is None:
        quantized = quantize_weights(
            rows,
            bias,
            bits=bits,
            x_scale=x.quant.scale,
            x_extent=x.extent,
            y_scale=out.scale,
            power_of_two=power_of_two,
            taps=expected_taps(layer, emitter.plan.ranges.means),
        )
    emitter.note(
        layer, weight_bits=bits, weight_scale="pow2" if power_of_two else "real", weights=int(quantized.values.size)
    )
    return quantized


def _as_rows(stored: StoredIntegers) -> StoredIntegers:
    values = stored.values.reshape(len(stored.values), -1)
    scale = stored.scale.reshape(-1, 1) if stored.scale.size in (1, len(values)) else stored.scale
    return replace(stored, values=values, scale=scale)


def _finish(emitter: Emitter, layer: Layer, acc: ir.Value, x: Operand, quantized: QuantizedWeights) -> None:
    out = emitter.plan.quant(name_of(layer.output))
    ratio = (x.quant.scale * quantized.scale / out.scale).reshape(1, -1, 1, 1)
    result = requantize(emitter, layer, acc, ratio, out, int(quantized.bound.max(initial=0)))
    emitter.define(layer.output, result)
