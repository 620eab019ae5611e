"""Matrix products: with constant right side (a fully connected layer) or of two computed tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.quantize.integerize.conv import layer_weights, note_storage
from edgeq.quantize.integerize.emitter import Emitter
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.requantize import requantize
from edgeq.quantize.plan import PROBABILITY_S16, S16
from edgeq.quantize.topology import Layer, constant, name_of, shape_of

Array = NDArray[Any]


@emits("MatMul")
def emit_matmul(emitter: Emitter, layer: Layer) -> None:
    """MatMul (+ Add of a constant) -> Gemm, GemmS16 or MatMul, Requantize."""
    left, right = layer.node.inputs[0], layer.node.inputs[1]
    weights = constant(right)
    if left is not None and constant(left) is None and weights is not None and weights.ndim == 2:
        _emit_gemm(emitter, layer)
    else:
        _emit_product(emitter, layer)


def _emit_gemm(emitter: Emitter, layer: Layer) -> None:
    """x [..., K] times constant [K, N]."""
    x = emitter.read_for_product(_input(layer, 0))
    wide = x.quant.dtype == S16
    product, quantized = layer_weights(emitter, layer)
    inputs = [
        x.value,
        emitter.builder.constant(product.arrange(quantized.values), name=f"{layer.name}.weight"),
        emitter.builder.constant(quantized.bias, name=f"{layer.name}.bias"),
    ]
    if wide:
        acc = emitter.emit(layer, "GemmS16", inputs)
    else:
        acc = emitter.emit(layer, "Gemm", inputs, x_zero_point=x.quant.zero_point)
    note_storage(emitter, layer, acc)
    out = emitter.plan.quant(name_of(layer.output))
    ratio = x.quant.scale * quantized.scale / out.scale
    emitter.define(layer.output, requantize(emitter, layer, acc, ratio, out, int(quantized.bound.max(initial=0))))


def _emit_product(emitter: Emitter, layer: Layer) -> None:
    """Both sides int8, per tensor; 16-bit probabilities stay what they are where the sum still fits 32 bits."""
    left, depth = _input(layer, 0), shape_of(_input(layer, 0))[-1]
    b = emitter.read_s8(_input(layer, 1))
    fits = depth * 2**15 * b.extent < 2**31
    wide = constant(left) is None and emitter.plan.quant(name_of(left)) == PROBABILITY_S16
    a = emitter.read(left) if wide and fits else emitter.read_s8(left)
    acc = emitter.emit(
        layer, "MatMul", [a.value, b.value], a_zero_point=a.quant.zero_point, b_zero_point=b.quant.zero_point
    )
    out = emitter.plan.quant(name_of(layer.output))
    if emitter.plan.is_accumulator(name_of(layer.output)):
        emitter.define(layer.output, acc, out)
        return
    ratio = np.array([a.quant.scale * b.quant.scale / out.scale])
    emitter.define(layer.output, requantize(emitter, layer, acc, ratio, out, depth * a.extent * b.extent))


def _input(layer: Layer, position: int) -> Any:
    value = layer.node.inputs[position]
    if value is None:
        raise ModelError("an input is missing", where=f"layer {layer.name!r}, input {position}")
    return value
