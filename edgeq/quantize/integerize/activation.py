"""Functions of one tensor become tables; a clamp that no producer could take becomes a Rescale."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.integer.graph import Quant
from edgeq.integer.shift_exp import shift_gelu_constants
from edgeq.integer.shift_gelu_paper import shift_gelu_paper_constants
from edgeq.quantize.integerize.emitter import Emitter, Operand, code, limits, on_grid
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.plan import S16
from edgeq.quantize.topology import Layer, clamp_of, name_of

#: Entries and spacing of an interpolated table over int16.
INTERPOLATED, SPACING = 513, 128
#: Labels of the front end for the functions that I-ViT's shifts stand in for.
GELUS = ("GELU", "GELU(tanh)", "QuickGELU")


@emits("Relu", "Clip")
def emit_clamp(emitter: Emitter, layer: Layer) -> None:
    """A Relu or Clip that stands alone -> Rescale with the clamp."""
    limits_of = clamp_of(layer.node)
    if limits_of is None:
        raise emitter.unsupported(layer, "its limits are computed or not scalar")
    x, out = emitter.read(layer.inputs[0]), emitter.plan.quant(name_of(layer.output))
    emitter.define(layer.output, emitter.rescale(x, out, *limits_of))


@emits("Unary")
def emit_unary(emitter: Emitter, layer: Layer) -> None:
    """A function of one tensor -> Lut (int8 input) or LutInterp (int16 input, one function for all channels)."""
    function = emitter.topology.source.unary(layer.node)
    source, out = layer.inputs[0], emitter.plan.quant(name_of(layer.output))
    x = emitter.read(source)
    if emitter.plan.is_accumulator(name_of(layer.output)):
        # A multiple of an accumulator is the same integer on another scale.
        emitter.define(layer.output, x.value, out)
        return
    form = emitter.policy(layer).gelu or "lut"
    if form != "lut" and is_gelu(layer):
        emitter.define(layer.output, _by_shifts(emitter, layer, form, out))
        return
    if x.quant.dtype == S16 and function.channels is None:
        emitter.note(layer, nonlinear="interp")
        emitter.define(layer.output, _interpolated(emitter, layer, x, out))
        return
    x = emitter.read_s8(source)
    points = (np.arange(-128, 128) - x.quant.zero_point) * x.quant.scale
    table = table_of(function(points), out)
    emitter.note(layer, nonlinear="table")
    constant = emitter.builder.constant(table, name=f"{layer.name}.table")
    axis = 1 if function.axis is None else function.axis
    emitter.define(layer.output, emitter.emit(layer, "Lut", [x.value, constant], axis=axis))


def is_gelu(layer: Layer) -> bool:
    """Whether the function is GELU: exact, by tanh, or x·σ(1.702·x)."""
    return layer.node.op_type == "Gelu" or layer.node.metadata_props.get("edgeq.label") in GELUS


def _by_shifts(emitter: Emitter, layer: Layer, form: str, out: Quant) -> ir.Value:
    """GELU without a table: ShiftGelu, or I-ViT's form as published (on int8)."""
    source = layer.inputs[0]
    emitter.note(layer, nonlinear=form)
    if form == "shiftgelu":
        x = emitter.read(source)
        op = "ShiftGelu"
        constants: dict[str, Any] = shift_gelu_constants(x.quant.scale, out.scale, x.quant.dtype).attributes()
    else:
        x = emitter.read_s8(source)
        op = "ShiftGeluPaper"
        constants = shift_gelu_paper_constants(x.quant.scale, out.scale).attributes()
    clamps = emitter.clamps(layer, out)
    return emitter.emit(layer, op, [x.value], x_zero_point=x.quant.zero_point, **constants, **clamps)


def table_of(values: NDArray[np.float64], out: Quant) -> NDArray[np.int8] | NDArray[np.int16]:
    """Function values as integers. Where the function is undefined (NaN) the entry stands for 0; no calibrated value
    ever reads it."""
    wide = np.nan_to_num(values, nan=0.0, posinf=1e30, neginf=-1e30)
    result: NDArray[np.int8] = on_grid(np.clip(wide, -1e30, 1e30), out)
    return result


def _interpolated(emitter: Emitter, layer: Layer, x: Operand, out: Quant) -> ir.Value:
    """LutInterp: 513 points over the int16 range; int8 results keep 7 more bits in the table."""
    function = emitter.topology.source.unary(layer.node)
    points = (np.arange(INTERPOLATED, dtype=np.float64) * SPACING - 32768) * x.quant.scale
    extra = 0 if out.dtype == S16 else 7
    fine = Quant(S16, out.scale * 2.0**-extra, 0)
    table = emitter.builder.constant(table_of(function(points), fine), name=f"{layer.name}.table")
    low, high = limits(out, -np.inf, np.inf)
    return emitter.emit(
        layer,
        "LutInterp",
        [x.value, table],
        shift=7 + extra,
        zero_point=out.zero_point,
        low=low,
        high=high,
        to=code(out),
    )
