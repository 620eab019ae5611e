"""Softmax by powers of two or by shifts; ArgMax on the integers."""

from __future__ import annotations

from typing import Any

from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.shift_exp import shiftmax_constants
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute, code, limits
from edgeq.quantize.integerize.pooling import finish_moved
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.plan import MASK, PROBABILITY_S8, PROBABILITY_S16, S16
from edgeq.quantize.topology import Layer, name_of, shape_of


@emits("Softmax", "MaskedSoftmax")
def emit_softmax(emitter: Emitter, layer: Layer) -> None:
    """Softmax -> Softmax or Shiftmax, with a mask their masked forms; probabilities in 1/256 or 2^−15."""
    x = emitter.read(layer.inputs[0])
    want = emitter.plan.quant(name_of(layer.output))
    out = PROBABILITY_S16 if want.dtype == S16 else PROBABILITY_S8
    shape = shape_of(layer.inputs[0])
    axis = int(attribute(layer.node, "axis", -1)) % len(shape)
    op, constants = _form(emitter, layer, x, shape[axis], 15 if out.dtype == S16 else 8)
    inputs = [x.value]
    if layer.op == "MaskedSoftmax":
        op, mask = f"Masked{op}", layer.node.inputs[1]
        if mask is None:
            raise emitter.unsupported(layer, "its mask is missing")
        inputs.append(emitter.read(mask, MASK).value)
    attributes: dict[str, Any] = {**constants, "zero_point": out.zero_point, "to": code(out)}
    low, high = limits(out, -float("inf"), float("inf"))
    result = emitter.emit(layer, op, inputs, axis=axis, low=low, high=high, **attributes)
    finish_moved(emitter, layer, layer.output, Operand(result, out))


def _form(emitter: Emitter, layer: Layer, x: Operand, length: int, out_bits: int) -> tuple[str, dict[str, int]]:
    """Op and constants: exp2 unless the policy asks for the form of shifts."""
    form = emitter.policy(layer).softmax or "exp2"
    emitter.note(layer, nonlinear=form)
    if form == "shiftmax":
        return "Shiftmax", shiftmax_constants(x.quant.scale, length, out_bits).attributes()
    return "Softmax", softmax_constants(x.quant.scale, length, out_bits).attributes()


@emits("ArgMax")
def emit_arg_max(emitter: Emitter, layer: Layer) -> None:
    """ArgMax on int8; the result is an index, int64."""
    x = emitter.read_s8(layer.inputs[0])
    wanted = ("axis", "keepdims", "select_last_index")
    attributes = {name: found.value for name, found in layer.node.attributes.items() if name in wanted}
    emitter.define_integer(layer.output, emitter.standard(layer, "ArgMax", [x.value], **attributes)[0])
