"""Layers with constant weights: their weights as rows, what they read, and their integers for a number of bits.

One row per output channel is the form every weight algorithm works on; a `Product` knows the way there and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.integer.graph import Quant
from edgeq.quantize.integerize.bias import expected_taps
from edgeq.quantize.integerize.emitter import RESIDUAL_READERS, attribute
from edgeq.quantize.integerize.weights import QuantizedWeights, keep_integers, quantize_weights
from edgeq.quantize.plan import Plan
from edgeq.quantize.topology import Layer, Topology, constant, name_of, stored_integers

Array = NDArray[Any]

#: Ops that multiply with constant weights.
WEIGHTED = ("Conv", "ConvTranspose", "MatMul")


@dataclass(frozen=True)
class Product:
    """A layer with constant weights.

    Attributes:
        layer: of the float graph.
        weights: as the node has them: Conv [N, C/g, kh, kw], ConvTranspose [C, N/g, kh, kw], MatMul [K, N].
    """

    layer: Layer
    weights: Array

    @property
    def group(self) -> int:
        """Groups of a convolution, 1 for a matrix product."""
        return int(attribute(self.layer.node, "group", 1))

    @property
    def rows(self) -> Array:
        """Weights as [output channels, fan-in]."""
        return self.as_rows(self.weights)

    def as_rows(self, array: Array) -> Array:
        """An array of the weights' shape (their scales) as [output channels, fan-in]."""
        if self.layer.op == "MatMul":
            return np.asarray(array.T)
        if self.layer.op == "Conv":
            return np.asarray(array.reshape(len(array), -1))
        return np.asarray(self._transposed(array).reshape(array.shape[1] * self.group, -1))

    def arrange(self, rows: Array) -> Array:
        """Rows in the node's own layout: the inverse of `rows`."""
        if self.layer.op == "MatMul":
            return np.ascontiguousarray(rows.T)
        if self.layer.op == "Conv":
            return np.asarray(rows.reshape(self.weights.shape))
        split = rows.reshape(self._transposed(self.weights).shape).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(split.reshape(self.weights.shape))

    def _transposed(self, array: Array) -> Array:
        """Weights of a ConvTranspose as [group, N/group, C/group, kh, kw]."""
        split = array.reshape(self.group, -1, *array.shape[1:])
        return np.asarray(split.transpose(0, 2, 1, 3, 4))

    @property
    def bias(self) -> Array | None:
        """Bias [output channels]: third input of a convolution, or the constant of an Add behind a matrix product."""
        node, found = self.layer.node, None
        if self.layer.bias is not None:
            found = constant(self.layer.bias)
        elif len(node.inputs) > 2 and node.inputs[2] is not None:
            found = constant(node.inputs[2])
        return None if found is None else np.broadcast_to(found.reshape(-1), (len(self.rows),))

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel reads a single input channel of several."""
        return self.layer.op == "Conv" and self.group > 1 and self.weights.shape[1] == 1


def product_of(layer: Layer) -> Product | None:
    """The layer as a product with constant weights, or None."""
    if layer.op not in WEIGHTED or layer.node.domain not in ("", "ai.onnx") or len(layer.node.inputs) < 2:
        return None
    left, right = layer.node.inputs[0], layer.node.inputs[1]
    weights = None if right is None else constant(right)
    if left is None or constant(left) is not None or weights is None:
        return None
    return Product(layer, weights) if weights.ndim == (2 if layer.op == "MatMul" else 4) else None


def products(topology: Topology) -> list[Product]:
    """All layers with constant weights, in order."""
    found = (product_of(layer) for layer in topology.layers)
    return [product for product in found if product is not None]


def read_quant(plan: Plan, product: Product) -> Quant:
    """Quantization in which a product reads its input.

    int8 also of a 16-bit tensor if a sum or normalization reads that as well: it is for them that it has 16 bits, and
    the product would take twice the time.
    """
    name = name_of(product.layer.inputs[0])
    residual = any(reader.op in RESIDUAL_READERS for reader in plan.topology.readers(name))
    return plan.s8(name) if residual or product.layer.op == "ConvTranspose" else plan.quant(name)


def extent_of(quant: Quant) -> int:
    """Largest |q − zero point| a quantization allows."""
    low, high = quant.limits
    return max(high - quant.zero_point, quant.zero_point - low)


def bits_of(plan: Plan, product: Product) -> int:
    """Width the policy gives the weights of a layer."""
    return plan.policy.layer(*product.layer.names).weight_bits or 8


def brought_along(plan: Plan, product: Product, bits: int) -> QuantizedWeights | None:
    """The integers a model brings for a layer, where they can stay; None where it brings none."""
    weight = product.layer.node.inputs[1]
    stored = None if weight is None else stored_integers(weight)
    if stored is None or bits != 8 or plan.policy.layer(*product.layer.names).scale == "pow2":
        return None
    x = read_quant(plan, product)
    return keep_integers(stored.arranged(product.as_rows), product.bias, x_scale=x.scale, x_extent=extent_of(x))


def plain_weights(plan: Plan, product: Product, bits: int | None = None) -> QuantizedWeights:
    """Weights rounded to nearest, bias corrected where calibration knows the mean input; integers a model brings stay.

    Args:
        plan: ranges and policy. product: the layer.
        bits: 2 … 8; None = the policy's.
    """
    width = bits or bits_of(plan, product)
    kept = brought_along(plan, product, width)
    if kept is not None:
        return kept
    x, layer = read_quant(plan, product), product.layer
    return quantize_weights(
        product.rows,
        product.bias,
        bits=width,
        x_scale=x.scale,
        x_extent=extent_of(x),
        y_scale=plan.quant(name_of(layer.output)).scale,
        power_of_two=plan.policy.layer(*layer.names).scale == "pow2",
        taps=expected_taps(layer, plan.ranges.means),
    )
