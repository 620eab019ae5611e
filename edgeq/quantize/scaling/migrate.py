"""Scale migration: channels with outliers get smaller, the weights that read them larger.

Xiao et al., "SmoothQuant" (arXiv 2211.10438): s = max|x|^α / max|w|^(1−α) per channel, α = ½, behind normalizations
and products. Where depthwise convolutions alone read the value α is 1: their weights have a scale for each channel, so
that all channels of the tensor may have one range for nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.frontend.graph import FloatGraph
from edgeq.quantize.samples.tokens import find_tokens
from edgeq.quantize.scaling.links import LIMITS, Link, links, rescaled
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Topology

Array = NDArray[Any]
Float = NDArray[np.float64]

#: Share of the difficulty that goes into the weights.
ALPHA = 0.5


def migrate(graph: FloatGraph, samples: list[dict[str, Array]], threads: int | None = None) -> FloatGraph | None:
    """The same function with channels of more equal range; None if no value allows it.

    Args:
        graph: from the front end. samples: feeds. threads: samples run at a time.
    """
    topology = Topology(graph)
    found = links(topology)
    if not found:
        return None
    names = [link.value for link in found]
    session, tokens = Session(model_with_outputs(graph.model, names), names), find_tokens(topology)
    largest = {link.value: np.zeros(link.channels) for link in found}
    for feeds, values in zip(samples, map_ordered(session.run, samples, threads), strict=True):
        real = None if tokens is None else tokens.real(feeds)
        for link, value in zip(found, values, strict=True):
            seen = value
            if tokens is not None and real is not None and link.value in tokens.axes:
                seen = np.compress(real, value, tokens.axes[link.value])
            others = tuple(axis for axis in range(seen.ndim) if axis != link.axis)
            largest[link.value] = np.maximum(largest[link.value], np.abs(seen).max(axis=others))
    return rescaled(graph, {link.value: _scale(link, largest[link.value]) for link in found})


def _scale(link: Link, largest: Float) -> Float:
    behind = link.read_range()
    alive = (largest > 0) & (behind > 0)
    share = 1.0 if link.depthwise else ALPHA
    scale = np.where(alive, largest, 1.0) ** share / np.where(alive, behind, 1.0) ** (1 - share)
    # Only ratios matter: the middle stays where it is.
    middle = np.exp(np.log(scale[alive]).mean()) if alive.any() else 1.0
    return np.asarray(np.clip(np.where(alive, scale / middle, 1.0), *LIMITS))
