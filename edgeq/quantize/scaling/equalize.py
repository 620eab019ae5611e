"""Cross-layer equalization: the weights around a value get the same range, channel by channel.

Nagel et al., "Data-free quantization through weight equalization and bias correction" (arXiv 1906.04721):
s = √(r₁ / r₂) per channel, r₁ and r₂ the largest weights in front and behind, repeated until nothing moves. It helps
where one scale serves a whole tensor; with a scale per output channel it changes what the activations look like.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.frontend.graph import FloatGraph
from edgeq.quantize.products import product_of
from edgeq.quantize.scaling.links import LIMITS, Link, links, rescaled
from edgeq.quantize.topology import Topology

Float = NDArray[np.float64]

#: Most rounds, and the change below which a round was the last.
ROUNDS, STILL = 20, 1e-3


def equalize(graph: FloatGraph) -> FloatGraph | None:
    """The same function with equal weight ranges around every value that allows it; None if none does."""
    changed, result = False, graph
    for _ in range(ROUNDS):
        scales = {link.value: _scale(link) for link in links(Topology(result)) if product_of(link.maker) is not None}
        scales = {name: scale for name, scale in scales.items() if np.abs(np.log(scale)).max() > STILL}
        if not scales:
            break
        # Links that share a layer would both move it: every other one at a time converges.
        changed, result = True, rescaled(result, _apart(result, scales))
    return result if changed else None


def _apart(graph: FloatGraph, scales: dict[str, Float]) -> dict[str, Float]:
    """A selection in which no layer both reads and makes a value."""
    taken: set[str] = set()
    chosen = {}
    for link in links(Topology(graph)):
        layers = {link.maker.name, *(reader.layer.name for reader in link.readers)}
        if link.value in scales and not taken & layers:
            chosen[link.value] = scales[link.value]
            taken |= layers
    return chosen


def _scale(link: Link) -> Float:
    maker = product_of(link.maker)
    if maker is None:
        return np.ones(link.channels)
    front, behind = np.abs(maker.rows.astype(np.float64)).max(axis=1), link.read_range()
    alive = (front > 0) & (behind > 0)
    # A dead channel has no range to equalize.
    ratio = np.sqrt(np.where(alive, front, 1.0) / np.where(alive, behind, 1.0))
    return np.asarray(np.clip(np.where(alive, ratio, 1.0), *LIMITS))
