"""Softmax by powers of two; ArgMax on the integers."""

from __future__ import annotations

from typing import Any

from edgeq.integer.exp2 import softmax_constants
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute, code, limits
from edgeq.quantize.integerize.pooling import finish_moved
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.plan import PROBABILITY_S8, PROBABILITY_S16, S16
from edgeq.quantize.topology import Layer, name_of, shape_of


@emits("Softmax")
def emit_softmax(emitter: Emitter, layer: Layer) -> None:
    """Softmax -> Softmax of the integer dialect, probabilities in 1/256 or 2^−15."""
    x = emitter.read(layer.inputs[0])
    want = emitter.plan.quant(name_of(layer.output))
    out = PROBABILITY_S16 if want.dtype == S16 else PROBABILITY_S8
    shape = shape_of(layer.inputs[0])
    axis = int(attribute(layer.node, "axis", -1)) % len(shape)
    constants = softmax_constants(x.quant.scale, shape[axis], 15 if out.dtype == S16 else 8)
    attributes: dict[str, Any] = {**constants.attributes(), "zero_point": out.zero_point, "to": code(out)}
    low, high = limits(out, -float("inf"), float("inf"))
    result = emitter.emit(layer, "Softmax", [x.value], axis=axis, low=low, high=high, **attributes)
    emitter.note(layer, nonlinear="exp2")
    finish_moved(emitter, layer, layer.output, Operand(result, out))


@emits("ArgMax")
def emit_arg_max(emitter: Emitter, layer: Layer) -> None:
    """ArgMax on int8; the result is an index, int64."""
    x = emitter.read_s8(layer.inputs[0])
    wanted = ("axis", "keepdims", "select_last_index")
    attributes = {name: found.value for name, found in layer.node.attributes.items() if name in wanted}
    emitter.define_integer(layer.output, emitter.standard(layer, "ArgMax", [x.value], **attributes)[0])
