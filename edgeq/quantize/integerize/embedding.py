"""From integers to values: rows of a table, masks, and numbers that were cast to float."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.integer.graph import Quant
from edgeq.integer.ops.scaled_embedding import SHIFT_MAX
from edgeq.quantize.integerize.conv import note_storage
from edgeq.quantize.integerize.emitter import Emitter, code, on_grid
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.weights import quantize_rows
from edgeq.quantize.plan import MASK, Plan
from edgeq.quantize.topology import Layer, is_float, name_of

#: Integers that are cast to float are looked up; tables are no longer than this.
_LONGEST_TABLE = 65536
#: From this width on a table needs no scales of its own: it is in the output's quantization.
WHOLE = 8


def emit_embedding(emitter: Emitter, layer: Layer, table: NDArray[Any]) -> None:
    """Gather of constant rows at computed indices -> Embedding, the table in the output's quantization.

    Where the policy gives the layer by name fewer than 8 bits: ScaledEmbedding, with a scale for each row.
    """
    indices = layer.node.inputs[1]
    if indices is None:
        raise emitter.unsupported(layer, "it has no indices")
    out, bits = emitter.plan.quant(name_of(layer.output)), table_bits(emitter.plan, layer)
    if bits < WHOLE:
        emitter.note(layer, weights=int(table.size), weight_bits=bits)
        emitter.define(layer.output, _narrow(emitter, layer, table, emitter.passed(indices), out, bits))
        return
    emitter.note(layer, weights=int(table.size), weight_bits=8 * out.dtype.itemsize)
    emitter.define(layer.output, _lookup(emitter, layer, table, emitter.passed(indices), out))


def table_bits(plan: Plan, layer: Layer) -> int:
    """Bits of a table of embeddings: what the policy says of this layer by name. Its defaults speak of layers that
    multiply."""
    return plan.policy.named(*layer.names).weight_bits or WHOLE


def _narrow(emitter: Emitter, layer: Layer, table: NDArray[Any], indices: ir.Value, out: Quant, bits: int) -> ir.Value:
    values, scale = quantize_rows(table.reshape(len(table), -1), bits)
    ratio = scale / out.scale
    shift = min(SHIFT_MAX, max(0, 14 - math.frexp(float(ratio.max(initial=0.0)))[1]))
    multiplier = np.minimum(np.rint(ratio * 2.0**shift), 2**15 - 1).astype(np.int16)
    constants = [
        emitter.builder.constant(values.reshape(table.shape), name=f"{layer.name}.table"),
        emitter.builder.constant(multiplier, name=f"{layer.name}.multiplier"),
    ]
    result = emitter.emit(layer, "ScaledEmbedding", [*constants, indices], shift=shift, **emitter.clamps(layer, out))
    note_storage(emitter, layer, result)
    return result


@emits("Cast")
def emit_cast(emitter: Emitter, layer: Layer) -> None:
    """An integer or truth value that becomes float: 0 and 1 by ToMask, other small numbers by a table."""
    source, target = layer.inputs[0], layer.output
    if is_float(source) or not is_float(target):
        raise emitter.unsupported(layer, f"it casts {source.dtype} to {target.dtype}")
    out, name = emitter.plan.quant(name_of(target)), name_of(target)
    if out == MASK:
        emitter.define(target, emitter.emit(layer, "ToMask", [emitter.passed(source)], to=code(out)), out)
        return
    statistics = emitter.plan.ranges.statistics[name]
    if statistics.low < 0 or statistics.high >= _LONGEST_TABLE:
        raise emitter.unsupported(
            layer,
            f"it turns integers from {statistics.low:g} to {statistics.high:g} into numbers; 0 to {_LONGEST_TABLE - 1} "
            "can be looked up",
        )
    numbers = np.arange(int(statistics.high) + 1, dtype=np.float64)
    emitter.define(target, _lookup(emitter, layer, numbers, emitter.passed(source), out), out)


def _lookup(emitter: Emitter, layer: Layer, table: NDArray[Any], indices: ir.Value, out: Quant) -> ir.Value:
    integers = on_grid(table, out)
    constant = emitter.builder.constant(integers, name=f"{layer.name}.table")
    return emitter.emit(layer, "Embedding", [constant, indices])
