"""How far two networks' final outputs are apart, without labels.

Where the output is logits or probabilities: the Kullback-Leibler divergence of the class probabilities. Elsewhere
(embeddings, reconstructions, boxes): what it is for two normal distributions of equal variance, half the squared error
over the variance of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.quantize.error.simulate import normalised_error
from edgeq.quantize.logits import SOFTMAX
from edgeq.quantize.topology import Layer, Topology, constant, name_of, shape_of

Array = NDArray[Any]

#: Layers through which logits pass on their way from the last product to the output.
_PASSED = ("Reshape", "Flatten", "Squeeze", "GlobalAveragePool", "ReduceMean", "AveragePool", "Identity", "Transpose")


def class_outputs(topology: Topology, names: Sequence[str]) -> list[bool]:
    """Which of some values are logits: in front of a Softmax at the end, or one vector per sample that a product makes.

    A vector as long as the network's own input is taken for a reconstruction.
    """
    return [_is_logits(topology, name) for name in names]


def divergence(
    reference: Sequence[Sequence[Array]], values: Sequence[Sequence[Array]], classes: Sequence[bool]
) -> float:
    """The largest divergence among the outputs.

    Args:
        reference, values: [sample][output], real units; logits along the last axis (along axis 1 of images).
        classes: per output, whether it is logits.
    """
    columns = zip(zip(*reference, strict=True), zip(*values, strict=True), classes, strict=True)
    return max((_one(ref, val, logits) for ref, val, logits in columns), default=0.0)


def _one(reference: Sequence[Array], values: Sequence[Array], logits: bool) -> float:
    if not logits:
        return normalised_error(reference, values) / 2
    ref, val = (_log_probabilities(arrays) for arrays in (reference, values))
    return float(np.mean(np.sum(np.exp(ref) * (ref - val), axis=-1)))


def _log_probabilities(arrays: Sequence[Array]) -> NDArray[np.float64]:
    """[rows, classes] of log softmax, float64."""
    moved = (np.moveaxis(array, 1, -1) if array.ndim == 4 else array for array in arrays)
    rows = np.concatenate([array.reshape(-1, array.shape[-1]) for array in moved]).astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    return np.asarray(rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True)))


def _is_logits(topology: Topology, name: str) -> bool:
    if any(reader.op in SOFTMAX for reader in topology.readers(name)):
        return True
    layer = topology.producer.get(name)
    if layer is None:
        return False
    shape = shape_of(layer.output)
    sizes = [size for size in shape[1:] if size != 1]
    inputs = {int(np.prod(shape_of(value)[1:])) for value in topology.graph.inputs}
    if len(sizes) != 1 or sizes[0] in inputs:
        return False
    while layer is not None and layer.op in _PASSED:
        layer = topology.producer.get(name_of(layer.inputs[0]))
    return layer is not None and _multiplies(layer)


def _multiplies(layer: Layer) -> bool:
    weight = layer.node.inputs[1] if len(layer.node.inputs) > 1 else None
    return layer.op in ("MatMul", "Conv") and weight is not None and constant(weight) is not None
