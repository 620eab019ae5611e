"""From a 32-bit accumulator to the type and scale of a layer's output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.integer.arithmetic import NARROW_LIMIT, narrow_constants, narrow_left, single_constants
from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.emitter import Emitter
from edgeq.quantize.plan import S16
from edgeq.quantize.topology import Layer

#: Accumulators beyond this leave no room for the rounding term of the narrow form's first shift.
LARGEST_SUM = 2**30


def requantize(
    emitter: Emitter,
    layer: Layer,
    acc: ir.Value,
    ratio: NDArray[np.float64],
    out: Quant,
    bound: int,
) -> ir.Value:
    """Emit the requantization of a layer, its clamp included.

    Args:
        acc: s32.
        ratio: accumulator step / output step, shaped to broadcast against acc without growing it.
        out: quantization of the output.
        bound: largest magnitude of acc.
    """
    form = choose_form(emitter, layer, ratio, out, bound)
    emitter.note(layer, requantize=form)
    clamps: dict[str, Any] = emitter.clamps(layer, out)
    if form == "single":
        multiplier, shift = single_constants(ratio)
        op = "Requantize"
    else:
        multiplier, shift, clamps["post_shift"] = narrow_constants(ratio)
        op = "RequantizeNarrow"
    inputs = [
        acc,
        emitter.builder.constant(multiplier, name=f"{layer.name}.multiplier"),
        emitter.builder.constant(shift, name=f"{layer.name}.shift"),
    ]
    return emitter.emit(layer, op, inputs, ".requantize", **clamps)


def choose_form(emitter: Emitter, layer: Layer, ratio: NDArray[np.float64], out: Quant, bound: int) -> str:
    """`narrow` for 8-bit outputs unless the policy or the numbers speak against it; `single` for the rest."""
    asked = emitter.policy(layer).requantize
    if asked == "single" or out.dtype == S16 or float(ratio.max()) > NARROW_LIMIT:
        return "single"
    return "narrow" if bound << narrow_left(narrow_constants(ratio)[1]) <= LARGEST_SUM else "single"
