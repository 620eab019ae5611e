"""Resize: nearest copies int8 values, linear has its own op with fixed-point weights."""

from __future__ import annotations

from typing import Any

from edgeq.integer.interpolation import COORDINATE_MODES
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute, attributes_of
from edgeq.quantize.integerize.movement import index_input
from edgeq.quantize.integerize.pooling import finish_moved
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.topology import Layer, resize_mode, shape_of


@emits("Resize")
def emit_resize(emitter: Emitter, layer: Layer) -> None:
    """Resize nearest -> Resize on int8; linear -> ResizeLinear."""
    mode = resize_mode(layer.node)
    if mode == "nearest":
        x = emitter.read_s8(layer.inputs[0])
        inputs = [x.value, *(index_input(emitter, value) for value in layer.node.inputs[1:])]
        result = emitter.standard(layer, "Resize", inputs, **_nearest_attributes(emitter, layer))[0]
        finish_moved(emitter, layer, layer.output, Operand(result, x.quant))
        return
    if mode != "linear":
        raise emitter.unsupported(layer, f"mode {mode!r}; nearest and linear are supported")
    _emit_linear(emitter, layer)


def _nearest_attributes(emitter: Emitter, layer: Layer) -> dict[str, Any]:
    """Attributes that mean something for nearest neighbours."""
    if attribute(layer.node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise emitter.unsupported(layer, "it keeps the aspect ratio")
    idle = ("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias", "keep_aspect_ratio_policy")
    return {name: value for name, value in attributes_of(layer.node).items() if name not in idle}


def _emit_linear(emitter: Emitter, layer: Layer) -> None:
    before, after = shape_of(layer.inputs[0]), shape_of(layer.output)
    coordinates = str(attribute(layer.node, "coordinate_transformation_mode", "half_pixel"))
    if len(before) != 4 or before[:2] != after[:2]:
        raise emitter.unsupported(layer, "linear resizing is for the two image axes of a rank-4 tensor")
    if coordinates not in COORDINATE_MODES:
        raise emitter.unsupported(
            layer, f"coordinate mode {coordinates!r}; {', '.join(COORDINATE_MODES)} are supported"
        )
    if attribute(layer.node, "antialias", 0):
        raise emitter.unsupported(layer, "antialiasing")
    x = emitter.read(layer.inputs[0])
    result = emitter.emit(layer, "ResizeLinear", [x.value], out_h=after[2], out_w=after[3], mode=coordinates)
    finish_moved(emitter, layer, layer.output, Operand(result, x.quant))
