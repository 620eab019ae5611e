"""The integer graph's arithmetic in floating point: the same grids, weights and biases, an order of magnitude faster.

Every tensor is rounded to the grid of its plan where the integer graph rounds it, every product multiplies with the
real value of its integer weights, functions and clamps are those of the float graph. What differs is the last step of a
requantization now and then (ties, the narrow form's two roundings) and the error of integer softmax and normalization.
Searches run on it; what they found is judged again on the integer graph itself.

Weights and biases are inputs of the session with defaults: trying others costs a run, not a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeq.integer.arithmetic import dtype_range
from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.embedding import WHOLE, table_bits
from edgeq.quantize.integerize.weights import QuantizedWeights, quantize_rows
from edgeq.quantize.plan import PROBABILITY_S16, S16, S32, Plan
from edgeq.quantize.products import Product, plain_weights, product_of, products, read_quant
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Layer, embedding_table, is_float, is_selection, name_of, resize_mode

Array = NDArray[Any]
Weights = Mapping[str, QuantizedWeights]

_ROUNDED, _NARROWED, _WEIGHT, _BIAS = "::rounded", "::s8", "::weight", "::bias"


class FakeQuantized:
    """A planned network, ready to run with any weights.

    Args:
        plan: every tensor's quantization, and weights that algorithms chose.
        outputs: names of float values to give out, as the integer graph would hold them (in real units).

    Attributes:
        weights: by layer name, what a run uses where it isn't told otherwise.
        products: by layer name.
    """

    def __init__(self, plan: Plan, outputs: Sequence[str], products_of: Sequence[Product] | None = None) -> None:
        found = list(products_of) if products_of is not None else products(plan.topology)
        self.plan, self.outputs = plan, list(outputs)
        self.products = {product.layer.name: product for product in found}
        self.weights: dict[str, QuantizedWeights] = {
            product.layer.name: plan.weights.get(product.layer.name) or plain_weights(plan, product)
            for product in found
        }
        self._scales = {product.layer.name: read_quant(plan, product).scale for product in found}
        proto = model_with_outputs(plan.topology.model, ())
        narrow_tables(proto.graph, plan)
        nodes = insert_weights(proto.graph, self._defaults())
        names = _insert_roundings(proto.graph, nodes, plan, self.outputs)
        _cut(proto.graph, names)
        self._session = Session(proto, names)

    def run(
        self, samples: Iterable[dict[str, Array]], weights: Weights | None = None, threads: int | None = None
    ) -> list[list[Array]]:
        """Outputs per sample.

        Args:
            samples: feeds of the float graph.
            weights: by layer name, instead of the defaults.
            threads: samples run at a time.
        """
        return [list(values) for values in self.stream(samples, weights, threads)]

    def stream(
        self, samples: Iterable[dict[str, Array]], weights: Weights | None = None, threads: int | None = None
    ) -> Iterable[list[Array]]:
        """The same as `run`, one sample after the other: for outputs too large to keep."""
        changed: dict[str, Array] = {}
        for name, chosen in (weights or {}).items():
            changed |= self._tensors(name, chosen)
        return map_ordered(lambda feeds: self._session.run({**feeds, **changed}), samples, threads)

    def _tensors(self, name: str, chosen: QuantizedWeights) -> dict[str, Array]:
        """Weight and bias of a layer in real units."""
        return real_weights(self.products[name], chosen, self._scales[name])

    def _defaults(self) -> list[tuple[Product, dict[str, Array]]]:
        return [(product, self._tensors(name, self.weights[name])) for name, product in self.products.items()]


def narrow_tables(graph: onnx.GraphProto, plan: Plan) -> None:
    """Tables of embeddings that the policy makes narrow become what their integers stand for."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for layer in plan.topology.layers:
        table, bits = embedding_table(layer), table_bits(plan, layer)
        if table is None or bits == WHOLE:
            continue
        values, scale = quantize_rows(table.reshape(len(table), -1), bits)
        real = (values * scale[:, None]).astype(np.float32).reshape(table.shape)
        made = numpy_helper.from_array(real, f"{layer.name}::table")
        if made.name not in stored:
            graph.initializer.append(made)
        node = next(node for node in graph.node if layer.node.outputs[0].name in node.output)
        node.input[0] = made.name


def real_weights(product: Product, chosen: QuantizedWeights, x_scale: float) -> dict[str, Array]:
    """What a session of `insert_weights` takes for a layer: weight and bias in real units, float32."""
    name, rows = product.layer.name, chosen.values * chosen.scale[:, None]
    return {
        name + _WEIGHT: product.arrange(rows).astype(np.float32),
        name + _BIAS: (chosen.bias * (chosen.scale * x_scale)).astype(np.float32),
    }


def float_weights(product: Product) -> dict[str, Array]:
    """The same with the float model's own."""
    name, bias = product.layer.name, product.bias
    given = np.zeros(len(product.rows), np.float32) if bias is None else np.asarray(bias, np.float32)
    return {name + _WEIGHT: np.asarray(product.weights, np.float32), name + _BIAS: given}


def insert_weights(graph: onnx.GraphProto, layers: Iterable[tuple[Product, dict[str, Array]]]) -> list[onnx.NodeProto]:
    """Weights and biases become inputs with defaults; returns the graph's nodes with an Add where a bias is new."""
    nodes = {node.output[0]: node for node in graph.node}
    behind: dict[str, onnx.NodeProto] = {}
    for product, tensors in layers:
        layer, (weight, bias) = product.layer, tensors
        for name, array in tensors.items():
            graph.initializer.append(numpy_helper.from_array(array, name))
            graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
        node = nodes[name_of(layer.node.outputs[0])]
        node.input[1] = weight
        if layer.op != "MatMul":
            del node.input[2:]
            node.input.append(bias)
        elif layer.bias is not None:
            add = nodes[name_of(layer.nodes[1].outputs[0])]
            add.input[1 - list(add.input).index(node.output[0])] = bias
        else:
            made = node.output[0]
            node.output[0] = f"{made}::product"
            behind[node.output[0]] = helper.make_node("Add", [node.output[0], bias], [made])
    return [step for node in graph.node for step in (node, behind.get(node.output[0])) if step is not None]


def _insert_roundings(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], plan: Plan, outputs: Sequence[str]
) -> list[str]:
    """Round every tensor where the integer graph does; returns the names under which `outputs` are found then."""
    roundings: dict[str, list[onnx.NodeProto]] = {}
    renamed, narrowed = {}, {}
    for value in plan.topology.values():
        name = name_of(value)
        quant = plan.quant(name)
        if is_rounded(plan, name) and quant.dtype != S32:
            renamed[name] = name + _ROUNDED
            roundings[name] = _round(name, name + _ROUNDED, quant)
        if quant.dtype == S16 and quant != PROBABILITY_S16 and not plan.is_exact(name):
            narrowed[name] = name + _NARROWED
            roundings.setdefault(name, []).extend(
                _round(renamed.get(name, name), name + _NARROWED, plan.s8(name), name + _NARROWED)
            )
    wants_s8 = {
        (name_of(layer.node.outputs[0]), name_of(value))
        for layer in plan.topology.layers
        for value in layer.inputs
        if is_float(value) and name_of(value) in narrowed and _reads_s8(plan, layer)
    }
    made = {name for node in nodes for name in node.output}
    ordered = [step for name in roundings if name not in made for step in roundings[name]]
    for node in nodes:
        for position, name in enumerate(node.input):
            chosen = narrowed if (node.output[0], name) in wants_s8 else renamed
            node.input[position] = chosen.get(name, name)
        ordered.append(node)
        ordered.extend(step for name in node.output for step in roundings.get(name, []))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
    return [renamed.get(name, name) for name in outputs]


def _cut(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Keep what the outputs need: a network cut off behind a layer runs no further."""
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:], graph.output[:]
    graph.node.extend(copies)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(outputs))


def is_rounded(plan: Plan, name: str) -> bool:
    """Whether the integer graph rounds when it makes the value (and does not move or select, or keep 0 and 1)."""
    if plan.is_exact(name):
        return False
    layer = plan.topology.producer.get(name)
    interpolates = layer is not None and layer.op == "Resize" and resize_mode(layer.node) == "linear"
    return plan.ties.is_root(name) or interpolates


def _reads_s8(plan: Plan, layer: Layer) -> bool:
    """Whether a layer reads int8 even from a 16-bit tensor."""
    if is_selection(layer) or layer.op == "ConvTranspose":
        return True
    product = product_of(layer)
    if product is not None:
        return read_quant(plan, product).dtype != S16
    return layer.op == "MatMul"


def _round(source: str, target: str, quant: Quant, prefix: str | None = None) -> list[onnx.NodeProto]:
    """Nodes that round to a grid: QuantizeLinear and back for 8 bits, arithmetic for 16 and for fewer than 8."""
    name = prefix or target
    scale = _constant(f"{name}::scale", np.array(quant.scale, np.float32))
    whole = dtype_range(quant.dtype)
    if quant.dtype != S16 and quant.limits == whole:
        zero = _constant(f"{name}::zero", np.array(quant.zero_point, quant.dtype))
        grid = [scale.output[0], zero.output[0]]
        return [
            scale,
            zero,
            helper.make_node("QuantizeLinear", [source, *grid], [f"{name}::integer"]),
            helper.make_node("DequantizeLinear", [f"{name}::integer", *grid], [target]),
        ]
    low, high = (
        _constant(f"{name}::{end}", np.array(limit - quant.zero_point, np.float32))
        for end, limit in zip(("low", "high"), quant.limits, strict=True)
    )
    return [
        scale,
        low,
        high,
        helper.make_node("Div", [source, scale.output[0]], [f"{name}::steps"]),
        helper.make_node("Round", [f"{name}::steps"], [f"{name}::whole"]),
        helper.make_node("Clip", [f"{name}::whole", low.output[0], high.output[0]], [f"{name}::clamped"]),
        helper.make_node("Mul", [f"{name}::clamped", scale.output[0]], [target]),
    ]


def _constant(name: str, value: Array) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
