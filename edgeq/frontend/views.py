"""Data movement seen as a numbering: which element of a source each element of a value is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import ints, is_op, static_shape

#: Values with more elements are not followed.
LARGEST = 2**24

MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class View:
    """A value as its source reshaped to `split`, transposed by `perm`, reshaped to `shape`."""

    split: tuple[int, ...]
    perm: tuple[int, ...]
    shape: tuple[int, ...]

    def nodes(self, source: tuple[int, ...]) -> int:
        """How many nodes it takes to make it."""
        ordered = self.perm == tuple(range(len(self.perm)))
        if ordered:
            return int(self.shape != source)
        turned = tuple(self.split[k] for k in self.perm)
        return (self.split != source) + 1 + (turned != self.shape)

    def write(self, chain: Chain) -> Chain:
        """Nodes that make it from the chain's value."""
        if self.perm != tuple(range(len(self.perm))):
            if self.split != chain.shape:
                chain = chain.reshape(self.split, suffix=".split")
            chain = chain.transpose(*self.perm, suffix=".order")
        return chain if chain.shape == self.shape else chain.reshape(self.shape, suffix=".shape")


def numbering(shape: tuple[int, ...]) -> Array:
    """The elements of a tensor, numbered."""
    return np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)


def moved(node: ir.Node, elements: Array) -> Array | None:
    """What a Transpose or Reshape makes of numbered elements, None for another op."""
    shape = static_shape(node.outputs[0])
    if is_op(node, "Transpose"):
        turned: Array = elements.transpose(ints(node, "perm", range(elements.ndim)[::-1]))
        return turned
    return elements.reshape(shape) if is_op(node, *MOVES) and shape is not None else None


def view_of(elements: Array) -> View | None:
    """Read the view off numbered elements; None if it takes more than one transposition.

    Args:
        elements: a permutation of 0 … size − 1, of the value's shape.
    """
    shape = elements.shape
    # A batch of 1 in front stays an axis, so that graphs look the same for every batch.
    axes = [k for k, dim in enumerate(shape) if dim > 1 or k == 0]
    origin = elements[(0,) * elements.ndim]
    strides = {
        k: int(elements[tuple(int(j == k) for j in range(elements.ndim))] - origin) if shape[k] > 1 else elements.size
        for k in axes
    }
    order = sorted(axes, key=lambda k: (-strides[k], k))
    split = tuple(shape[k] for k in order)
    perm = tuple(order.index(k) for k in axes)
    rebuilt = np.arange(elements.size).reshape(split).transpose(perm).reshape(shape)
    return View(split, perm, shape) if (rebuilt == elements).all() else None
