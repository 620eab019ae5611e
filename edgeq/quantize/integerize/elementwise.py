"""Arithmetic of two tensors: sums and maxima with one rounding, products through an accumulator, quotients."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.integer.arithmetic import pair_constants, ratio_constants
from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.emitter import Emitter, Operand
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.requantize import requantize
from edgeq.quantize.plan import S16
from edgeq.quantize.topology import Layer, constant, name_of


@emits("Add", "Sub")
def emit_add(emitter: Emitter, layer: Layer) -> None:
    """Add, Sub -> Add; a difference has a negative second multiplier."""
    a, b = _sides(emitter, layer)
    out = emitter.plan.quant(name_of(layer.output))
    sign = -1.0 if layer.op == "Sub" else 1.0
    result = _pair(emitter, layer, "Add", a, b, out, sign)
    emitter.define(layer.output, result)


@emits("Max", "Min")
def emit_extremum(emitter: Emitter, layer: Layer) -> None:
    """Max, Min of any number of tensors -> a chain of pairs, all in the output's quantization."""
    out = emitter.plan.quant(name_of(layer.output))
    operands = [_operand(emitter, value, out) for value in layer.node.inputs if value is not None]
    if len(operands) == 1:
        emitter.define(layer.output, emitter.rescale(operands[0], out, layer.low, layer.high))
        return
    result = operands[0]
    for position, operand in enumerate(operands[1:]):
        value = _pair(emitter, layer, layer.op, result, operand, out, 1.0, f".{position}" if position else "")
        result = Operand(value, out)
    emitter.define(layer.output, result.value)


@emits("Mul")
def emit_mul(emitter: Emitter, layer: Layer) -> None:
    """Mul -> Mul (s32), Requantize."""
    a, b = _sides(emitter, layer)
    out = emitter.plan.quant(name_of(layer.output))
    acc = emitter.emit(
        layer, "Mul", [a.value, b.value], a_zero_point=a.quant.zero_point, b_zero_point=b.quant.zero_point
    )
    ratio = np.array([a.quant.scale * b.quant.scale / out.scale])
    emitter.define(layer.output, requantize(emitter, layer, acc, ratio, out, a.extent * b.extent))


@emits("Div")
def emit_div(emitter: Emitter, layer: Layer) -> None:
    """Div -> Div, an exact quotient rounded once."""
    a, b = _sides(emitter, layer)
    out = emitter.plan.quant(name_of(layer.output))
    multiplier, shift = ratio_constants(a.quant.scale / (b.quant.scale * out.scale))
    result = emitter.emit(
        layer,
        "Div",
        [a.value, b.value],
        a_zero_point=a.quant.zero_point,
        b_zero_point=b.quant.zero_point,
        multiplier=multiplier,
        shift=shift,
        **emitter.clamps(layer, out),
    )
    emitter.define(layer.output, result)


def _sides(emitter: Emitter, layer: Layer) -> tuple[Operand, Operand]:
    out = emitter.plan.quant(name_of(layer.output))
    a, b = (_operand(emitter, value, out) for value in layer.node.inputs if value is not None)
    return a, b


def _operand(emitter: Emitter, value: ir.Value, out: Quant) -> Operand:
    """An input; constants get 16 bits where the result has 16, so that they are not what limits it."""
    wide = constant(value) is not None and out.dtype == S16
    return emitter.wide_constant(value) if wide else emitter.read(value)


def _pair(
    emitter: Emitter, layer: Layer, op: str, a: Operand, b: Operand, out: Quant, sign: float, suffix: str = ""
) -> ir.Value:
    constants = pair_constants(
        a.quant.scale / out.scale, sign * b.quant.scale / out.scale, a_max=a.extent, b_max=b.extent
    )
    return emitter.emit(
        layer,
        op,
        [a.value, b.value],
        suffix,
        a_zero_point=a.quant.zero_point,
        b_zero_point=b.quant.zero_point,
        a_multiplier=constants.a_multiplier,
        b_multiplier=constants.b_multiplier,
        shift=constants.shift,
        **emitter.clamps(layer, out),
    )
