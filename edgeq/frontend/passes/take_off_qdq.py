"""Take QuantizeLinear / DequantizeLinear pairs off and remember what they said."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import NodePass, constant, initializer, is_op, only_use, supersede
from edgeq.frontend.weights import quantized, weight_array

SCALE_KEY, ZERO_POINT_KEY, DTYPE_KEY = "edgeq.scale", "edgeq.zero_point", "edgeq.dtype"
_WEIGHT_READERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


class TakeOffQdq(NodePass):
    """The float graph computes in float; what the file said about grids is metadata.

    - x → Q → DQ: readers read x, which gets `edgeq.scale`, `edgeq.zero_point` (decimal) and `edgeq.dtype`
      ("int8" …) in its metadata. A Clip between the two (narrow ranges) goes with them.
    - a graph input that only DQ reads, or an output that Q writes, becomes float, with the same metadata.
    - weights: Q of a constant is computed; the DequantizeLinear on the integers stays in front of Conv,
      ConvTranspose, MatMul and Gemm. Any other dequantized constant (biases, tables) becomes float.

    Args:
        notes: gets a sentence for each decision a person should know.
    """

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if is_op(node, "QuantizeLinear"):
            return _quantize_constant(graph, node) or self._quantized_output(graph, node)
        if is_op(node, "Clip"):
            return _clip_constant(graph, node)
        if is_op(node, "DequantizeLinear"):
            return self._dequantize(graph, node)
        return False

    def _dequantize(self, graph: ir.Graph, node: ir.Node) -> bool:
        if constant(node.inputs[0]) is not None:
            return _dequantize_constant(graph, node)
        source = node.inputs[0]
        assert source is not None
        if source.is_graph_input():
            return self._quantized_input(graph, node, source)
        quantize = source.producer()
        if quantize is not None and is_op(quantize, "Clip"):
            quantize = None if quantize.inputs[0] is None else quantize.inputs[0].producer()
        if quantize is None or not is_op(quantize, "QuantizeLinear") or quantize.inputs[0] is None:
            return False
        original = quantize.inputs[0]
        self._remember(original, node)
        return supersede_reader(graph, node, original)

    def _quantized_input(self, graph: ir.Graph, node: ir.Node, source: ir.Value) -> bool:
        if only_use(source) is not node:
            return False
        self._remember(source, node)
        source.type = ir.TensorType(ir.DataType.FLOAT)
        self.notes.append(f"Input '{source.name}' is quantized in the file; here it is given as real values.")
        return supersede(graph, node, source)

    def _quantized_output(self, graph: ir.Graph, node: ir.Node) -> bool:
        output, source = node.outputs[0], node.inputs[0]
        if source is None or not output.is_graph_output() or output.uses():
            return False
        self._remember(source, node)
        self.notes.append(f"Output '{output.name}' is quantized in the file; here it is real values.")
        output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), source.shape
        return supersede(graph, node, source)

    def _remember(self, value: ir.Value, node: ir.Node) -> None:
        scale, zero_point = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if scale is None or scale.size != 1:
            self.notes.append(f"The scale of '{value.name}' is not one constant number; it is calibrated instead.")
            return
        said = {
            SCALE_KEY: repr(float(scale.reshape(()))),
            ZERO_POINT_KEY: str(0 if zero_point is None else int(zero_point.reshape(()))),
            DTYPE_KEY: "uint8" if zero_point is None else str(zero_point.dtype),
        }
        if SCALE_KEY in value.metadata_props and any(value.metadata_props[key] != said[key] for key in said):
            self.notes.append(f"'{value.name}' is quantized in two ways in the file; the first one is kept.")
            return
        value.metadata_props.update(said)


def supersede_reader(graph: ir.Graph, node: ir.Node, original: ir.Value) -> bool:
    """Let the readers of a DQ read what its Q read, which keeps its own name unless the DQ is a graph output."""
    output = node.outputs[0]
    if output.is_graph_output():
        if original.producer() is None or original.is_graph_output():
            return False
        return supersede(graph, node, original)
    output.replace_all_uses_with(original)
    graph.remove(node, safe=True)
    return True


def _quantize_constant(graph: ir.Graph, node: ir.Node) -> bool:
    x, scale = constant(node.inputs[0]), constant(node.inputs[1])
    zero_point: Array | None = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if x is None or scale is None or zero_point is None or node.outputs[0].is_graph_output():
        return False
    if zero_point.dtype not in (np.int8, np.uint8, np.int16, np.uint16, np.int32):
        return False
    shape = [1] * x.ndim
    if scale.size > 1:
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
        shape[axis] = scale.size
    # ONNX divides in float32 and rounds half to even.
    q = np.rint(x.astype(np.float32) / scale.astype(np.float32).reshape(shape)) + zero_point.reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    array = np.clip(q, limits.min, limits.max).astype(zero_point.dtype)
    node.outputs[0].replace_all_uses_with(initializer(graph, f"{node.inputs[0].name}.quantized", array))
    graph.remove(node, safe=True)
    return True


def _clip_constant(graph: ir.Graph, node: ir.Node) -> bool:
    """Quantized weights of a narrow range: the Clip behind their Q."""
    q = constant(node.inputs[0])
    limits = [constant(value) for value in node.inputs[1:] if value is not None]
    if q is None or q.dtype.kind not in "iu" or any(limit is None for limit in limits):
        return False
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    high = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    clipped = q if low is None else np.maximum(q, low)
    clipped = clipped if high is None else np.minimum(clipped, high)
    node.outputs[0].replace_all_uses_with(initializer(graph, f"{node.inputs[0].name}.narrow", clipped))
    graph.remove(node, safe=True)
    return True


def _dequantize_constant(graph: ir.Graph, node: ir.Node) -> bool:
    output = node.outputs[0]
    readers = [(use.node, use.idx) for use in output.uses()]
    if readers and all(is_op(reader, *_WEIGHT_READERS) and index == 1 for reader, index in readers):
        return False
    array = weight_array(output)
    if quantized(output) is None or array is None or output.is_graph_output():
        return False
    dense = initializer(graph, f"{node.inputs[0].name}.dequantized", array.astype(np.float32))
    for reader, index in readers:
        if not (is_op(reader, *_WEIGHT_READERS) and index == 1):
            reader.replace_input_with(index, dense)
    if not output.uses():
        graph.remove(node, safe=True)
    return True
