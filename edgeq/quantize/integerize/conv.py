"""Convolutions: integer weights per output channel, s32 accumulator, one requantization with the clamp in it."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from edgeq.integer.graph import STORAGE
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.requantize import requantize
from edgeq.quantize.integerize.weights import QuantizedWeights, width_of
from edgeq.quantize.plan import S16
from edgeq.quantize.products import Product, bits_of, plain_weights, product_of
from edgeq.quantize.topology import Layer, constant, name_of, stored_integers


@emits("Conv")
def emit_conv(emitter: Emitter, layer: Layer) -> None:
    """Conv -> Conv (int8 input) or ConvS16 (int16), Requantize."""
    x = emitter.read_for_product(layer.node.inputs[0])
    wide = x.quant.dtype == S16
    product, quantized = layer_weights(emitter, layer)
    geometry = _geometry(emitter, layer)
    if not wide:
        geometry["x_zero_point"] = x.quant.zero_point
    acc = emitter.emit(
        layer,
        "ConvS16" if wide else "Conv",
        [
            x.value,
            emitter.builder.constant(product.arrange(quantized.values), name=f"{layer.name}.weight"),
            emitter.builder.constant(quantized.bias.reshape(1, -1, 1, 1), name=f"{layer.name}.bias"),
        ],
        **geometry,
    )
    note_storage(emitter, layer, acc)
    _finish(emitter, layer, acc, x, quantized)


@emits("ConvTranspose")
def emit_conv_transpose(emitter: Emitter, layer: Layer) -> None:
    """ConvTranspose -> ConvTranspose on int8, Requantize. Weights are [C, N/group, kh, kw]."""
    x = emitter.read_s8(layer.node.inputs[0])
    product, quantized = layer_weights(emitter, layer)
    geometry = _geometry(emitter, layer)
    geometry["output_padding"] = list(attribute(layer.node, "output_padding", [0, 0]))
    acc = emitter.emit(
        layer,
        "ConvTranspose",
        [
            x.value,
            emitter.builder.constant(product.arrange(quantized.values), name=f"{layer.name}.weight"),
            emitter.builder.constant(quantized.bias.reshape(1, -1, 1, 1), name=f"{layer.name}.bias"),
        ],
        x_zero_point=x.quant.zero_point,
        **geometry,
    )
    note_storage(emitter, layer, acc)
    _finish(emitter, layer, acc, x, quantized)


def note_storage(emitter: Emitter, layer: Layer, acc: ir.Value) -> None:
    """Leaves the compiler a note of how the policy wants the layer's weights stored."""
    wanted, node = emitter.plan.policy.layer(*layer.names).weights, acc.producer()
    if wanted is not None and node is not None:
        node.metadata_props[STORAGE] = wanted


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


def layer_weights(emitter: Emitter, layer: Layer) -> tuple[Product, QuantizedWeights]:
    """A layer's weights and their integers: what an algorithm chose for the plan, else rounded to nearest. Reported."""
    product = product_of(layer)
    if product is None:
        raise emitter.unsupported(layer, _why_not(layer))
    plan = emitter.plan
    quantized = plan.weights.get(layer.name) or plain_weights(plan, product)
    emitter.note(
        layer,
        weight_bits=width_of(quantized.values) if _stored(layer) else bits_of(plan, product),
        weight_scale=emitter.policy(layer).scale or "real",
        weights=int(quantized.values.size),
    )
    return product, quantized


def _stored(layer: Layer) -> bool:
    weight = layer.node.inputs[1]
    return weight is not None and stored_integers(weight) is not None


def _why_not(layer: Layer) -> str:
    weight = layer.node.inputs[1]
    weights = None if weight is None else constant(weight)
    if weights is None:
        return "its weights are computed, not constant"
    return f"its kernel has {weights.ndim - 2} dimensions, two are supported"


def _finish(emitter: Emitter, layer: Layer, acc: ir.Value, x: Operand, quantized: QuantizedWeights) -> None:
    out = emitter.plan.quant(name_of(layer.output))
    ratio = (x.quant.scale * quantized.scale / out.scale).reshape(1, -1, 1, 1)
    result = requantize(emitter, layer, acc, ratio, out, int(quantized.bound.max(initial=0)))
    emitter.define(layer.output, result)
