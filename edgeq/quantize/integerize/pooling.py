"""Pooling: sums with the count in the multiplier, maxima as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.quantize.integerize.emitter import Emitter, Operand, attribute
from edgeq.quantize.integerize.registry import emits
from edgeq.quantize.integerize.requantize import requantize
from edgeq.quantize.topology import Layer, constant, name_of, shape_of


@emits("AveragePool")
def emit_average_pool(emitter: Emitter, layer: Layer) -> None:
    """AveragePool -> SumPool, Requantize with 1/count (per position where padding changes the count)."""
    node = layer.node
    x = emitter.read(layer.inputs[0])
    kernel, strides = list(attribute(node, "kernel_shape")), list(attribute(node, "strides", [1, 1]))
    pads = list(attribute(node, "pads", [0, 0, 0, 0]))
    if len(kernel) != 2:
        raise emitter.unsupported(layer, f"it pools over {len(kernel)} dimensions, two are supported")
    if attribute(node, "ceil_mode", 0) or any(d != 1 for d in attribute(node, "dilations", [1, 1])):
        raise emitter.unsupported(layer, "ceil_mode or dilations that padding can't express")
    counts = np.array(float(np.prod(kernel)))
    if any(pads) and not attribute(node, "count_include_pad", 0):
        counts = window_counts(shape_of(layer.inputs[0])[2:], kernel, strides, pads)
    _emit_sum_pool(emitter, layer, x, kernel, strides, pads, counts)


@emits("GlobalAveragePool")
def emit_global_average_pool(emitter: Emitter, layer: Layer) -> None:
    """GlobalAveragePool -> SumPool over the image, Requantize."""
    x = emitter.read(layer.inputs[0])
    spatial = list(_image(emitter, layer))
    _emit_sum_pool(emitter, layer, x, spatial, [1, 1], [0, 0, 0, 0], np.array(float(np.prod(spatial))))


@emits("ReduceMean", "ReduceSum")
def emit_reduce(emitter: Emitter, layer: Layer) -> None:
    """ReduceMean, ReduceSum -> ReduceSum, Requantize (SumPool for means over an image)."""
    x = emitter.read(layer.inputs[0])
    shape = shape_of(layer.inputs[0])
    axes, keep = reduced_axes(emitter, layer), bool(attribute(layer.node, "keepdims", 1))
    count = int(np.prod([shape[axis] for axis in axes]))
    divisor = np.array(float(count)) if layer.op == "ReduceMean" else np.array(1.0)
    if len(shape) == 4 and axes == [2, 3] and keep:
        _emit_sum_pool(emitter, layer, x, list(shape[2:]), [1, 1], [0, 0, 0, 0], divisor)
        return
    acc = emitter.emit(layer, "ReduceSum", [x.value], axes=axes, keepdims=int(keep), x_zero_point=x.quant.zero_point)
    _finish(emitter, layer, acc, x, divisor, count)


@emits("MaxPool")
def emit_max_pool(emitter: Emitter, layer: Layer) -> None:
    """MaxPool on int8, unchanged."""
    if len(layer.node.outputs) > 1 and layer.node.outputs[1].uses():
        raise emitter.unsupported(layer, "the indices of the maxima are used")
    wanted = ("kernel_shape", "strides", "pads", "dilations", "ceil_mode")
    attributes = {name: found.value for name, found in layer.node.attributes.items() if name in wanted}
    _select(emitter, layer, "MaxPool", attributes)


@emits("GlobalMaxPool")
def emit_global_max_pool(emitter: Emitter, layer: Layer) -> None:
    """GlobalMaxPool -> MaxPool over the image."""
    _select(emitter, layer, "MaxPool", {"kernel_shape": list(_image(emitter, layer))})


@emits("ReduceMax")
def emit_reduce_max(emitter: Emitter, layer: Layer) -> None:
    """ReduceMax on int8, unchanged."""
    axes = emitter.builder.constant(np.array(reduced_axes(emitter, layer), np.int64), name=f"{layer.name}.axes")
    _select(emitter, layer, "ReduceMax", {"keepdims": int(attribute(layer.node, "keepdims", 1))}, [axes])


def _select(emitter: Emitter, layer: Layer, op: str, attributes: dict[str, Any], more: Sequence[ir.Value] = ()) -> None:
    """A standard op on int8 whose output has the scale of its input (of what the plan says, if that differs)."""
    x = emitter.read_s8(layer.inputs[0])
    result = Operand(emitter.standard(layer, op, [x.value, *more], **attributes)[0], x.quant)
    finish_moved(emitter, layer, layer.output, result)


def finish_moved(emitter: Emitter, layer: Layer, value: ir.Value, result: Operand) -> None:
    """Define a moved value; where the plan gives it another quantization than its source, convert behind the op."""
    want = emitter.plan.quant(name_of(value))
    if result.quant == want:
        emitter.define(value, result.value)
    else:
        result.value.name = f"{name_of(value)}.moved"
        emitter.define(value, emitter.rescale(result, want))


def _image(emitter: Emitter, layer: Layer) -> tuple[int, ...]:
    shape = shape_of(layer.inputs[0])
    if len(shape) != 4:
        raise emitter.unsupported(layer, f"its input has rank {len(shape)}, images of rank 4 are supported")
    return shape[2:]


def reduced_axes(emitter: Emitter, layer: Layer) -> list[int]:
    """The axes a reduction goes over, non-negative and sorted; all of them where none are given."""
    node, rank = layer.node, len(shape_of(layer.inputs[0]))
    axes = attribute(node, "axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        array = constant(node.inputs[1])
        if array is None:
            raise emitter.unsupported(layer, "its axes are computed")
        axes = array.reshape(-1).tolist()
    if not axes:
        if attribute(node, "noop_with_empty_axes", 0):
            raise emitter.unsupported(layer, "it reduces over no axis")
        axes = range(rank)
    return sorted(int(axis) % rank for axis in axes)


def window_counts(
    image: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> NDArray[np.float64]:
    """Positions of each window that lie inside the image: [1, 1, OH, OW]."""
    per_axis = []
    for axis in range(2):
        size = (image[axis] + pads[axis] + pads[axis + 2] - kernel[axis]) // strides[axis] + 1
        start = np.arange(size) * strides[axis] - pads[axis]
        per_axis.append(np.minimum(start + kernel[axis], image[axis]) - np.maximum(start, 0))
    return np.asarray(np.multiply.outer(*per_axis)[None, None], dtype=np.float64)


def _emit_sum_pool(
    emitter: Emitter,
    layer: Layer,
    x: Operand,
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    counts: NDArray[np.float64],
) -> None:
    acc = emitter.emit(
        layer,
        "SumPool",
        [x.value],
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        x_zero_point=x.quant.zero_point,
    )
    _finish(emitter, layer, acc, x, counts, int(np.prod(kernel)))


def _finish(
    emitter: Emitter, layer: Layer, acc: ir.Value, x: Operand, divisor: NDArray[np.float64], count: int
) -> None:
    out = emitter.plan.quant(name_of(layer.output))
    ratio = np.atleast_1d(x.quant.scale / (out.scale * divisor))
    emitter.define(layer.output, requantize(emitter, layer, acc, ratio, out, count * x.extent))
