"""Ops that move values: standard ONNX ops on the integers, in the quantization the plan gives their output."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.embedding import emit_embedding
from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute, attributes_of, on_grid
from edgeq.quantize.integerize.pooling import finish_moved
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.topology import Layer, constant, embedding_table, is_float, name_of

_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "Expand", "Identity")


@emits("DepthToSpace", "SpaceToDepth")
def emit_blocks(emitter: Emitter, layer: Layer) -> None:
    """Blocks of an image and channels changing places, on int8."""
    x = emitter.read_s8(layer.inputs[0])
    result = emitter.standard(layer, layer.op, [x.value], **attributes_of(layer.node))[0]
    finish_moved(emitter, layer, layer.output, Operand(result, x.quant))


@emits(*_MOVES, "Concat")
def emit_movement(emitter: Emitter, layer: Layer) -> None:
    """The same op on integers; every float input is brought to the output's quantization first."""
    table = embedding_table(layer)
    if table is not None:
        emit_embedding(emitter, layer, table)
        return
    if layer.op == "Gather" and constant(layer.node.inputs[1]) is None:
        raise emitter.unsupported(layer, "its indices are computed, and its data isn't a constant along axis 0")
    if not is_float(layer.output):
        inputs = [index_input(emitter, value) for value in layer.node.inputs]
        for value, result in zip(
            layer.outputs,
            emitter.standard(layer, layer.op, inputs, len(layer.outputs), **attributes_of(layer.node)),
            strict=True,
        ):
            emitter.define_integer(value, result)
        return
    want = emitter.plan.quant(name_of(layer.output))
    inputs = [
        emitter.read(value, want).value if value is not None and _is_data(value) else index_input(emitter, value)
        for value in layer.node.inputs
    ]
    # Targets hold no zeros: what one of them would mean is idle.
    attributes = {name: value for name, value in attributes_of(layer.node).items() if name != "allowzero"}
    results = emitter.standard(layer, layer.op, inputs, len(layer.outputs), **attributes)
    for value, result in zip(layer.outputs, results, strict=True):
        finish_moved(emitter, layer, value, Operand(result, want))


@emits("Pad")
def emit_pad(emitter: Emitter, layer: Layer) -> None:
    """Pad on int8; the constant is quantized, zero becomes the zero point."""
    inputs = list(layer.node.inputs)
    x = emitter.read_s8(layer.inputs[0])
    operands: list[ir.Value | None] = [x.value, index_input(emitter, inputs[1])]
    if attribute(layer.node, "mode", "constant") == "constant":
        given = constant(inputs[2]) if len(inputs) > 2 else None
        if given is None and len(inputs) > 2 and inputs[2] is not None:
            raise emitter.unsupported(layer, "the value it pads with is computed")
        operands.append(_pad_value(emitter, layer, 0.0 if given is None else float(given.reshape(())), x.quant))
    elif len(inputs) > 3:
        operands.append(None)
    if len(inputs) > 3:
        operands.append(index_input(emitter, inputs[3]))
    result = emitter.standard(layer, "Pad", operands, **attributes_of(layer.node))[0]
    finish_moved(emitter, layer, layer.output, Operand(result, x.quant))


def _pad_value(emitter: Emitter, layer: Layer, value: float, quant: Quant) -> ir.Value:
    integer = on_grid(np.array(value), quant)
    return emitter.builder.constant(integer, name=f"{layer.name}.value")


def _is_data(value: ir.Value) -> bool:
    array = constant(value)
    return is_float(value) if array is None else array.dtype.kind == "f"


def index_input(emitter: Emitter, value: ir.Value | None) -> ir.Value | None:
    """Shapes, axes and indices go through as they are."""
    if value is None:
        return None
    array = constant(value)
    if array is None:
        return emitter.passed(value)
    return emitter.builder.constant(array, name=name_of(value))
