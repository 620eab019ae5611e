"""From integers to values: rows of a table, masks, and numbers that were cast to float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.emitter import Emitter, code, on_grid
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.plan import MASK
from edgeq.quantize.topology import Layer, is_float, name_of

#: Integers that are cast to float are looked up; tables are no longer than this.
_LONGEST_TABLE = 65536


def emit_embedding(emitter: Emitter, layer: Layer, table: NDArray[Any]) -> None:
    """Gather of constant rows at computed indices -> Embedding; the table in the output's quantization."""
    indices = layer.node.inputs[1]
    if indices is None:
        raise emitter.unsupported(layer, "it has no indices")
    out = emitter.plan.quant(name_of(layer.output))
    emitter.note(layer, weights=int(table.size), weight_bits=8 * out.dtype.itemsize)
    emitter.define(layer.output, _lookup(emitter, layer, table, emitter.passed(indices), out))


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
