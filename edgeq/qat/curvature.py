"""Second-order sensitivity: what rounding weights does to the output by the curvature there.

The divergence of the outputs from the float network's own is zero and flat at the float weights, so that a change Δ of
a layer's weights costs ½ Δᵀ H Δ with H = Jᵀ F J, J of the outputs and F the curvature of the divergence in them. As in
Hutchinson's method random signs z turn a quadratic form into samples, here on the side of the outputs, where vectors
are short: with g = Jᵀ F^½ z, Δᵀ H Δ = E[(g · Δ)²] and tr H = E[‖g‖²] (HAWQ-V2, arXiv 1911.03852, uses the trace). One
backward pass gives g for all layers, and errors that a rounding made to cancel over a layer's inputs do cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeq.qat.flow import Flow
from edgeq.qat.node import Tensor
from edgeq.qat.quantizers import WeightLayer, arrangement
from edgeq.quantize.error.divergence import class_outputs
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import Product, products
from edgeq.quantize.promote import final_outputs

#: Random signs per sample.
PROBES = 4
_TINY = 1e-12


class _Floats(WeightLayer):
    """Weights as they are."""

    index: Tensor

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.from_numpy(np.array(product.rows, np.float32)))
        bias = product.bias
        self._bias = None if bias is None else torch.from_numpy(np.array(bias, np.float32))
        self.register_buffer("index", arrangement(product), persistent=False)

    def weight(self) -> Tensor:
        """Real units, in the layout of the float graph's node."""
        return self.rows.reshape(-1)[self.index]

    @property
    def bias(self) -> Tensor | None:
        """float32 [output channels]."""
        return self._bias


def second_order(
    plan: Plan,
    feeds: Sequence[Mapping[str, NDArray[np.float32]]],
    widths: Iterable[int],
    *,
    layers: Sequence[str],
    rounding: Callable[[Plan, Product, int], QuantizedWeights],
    probes: int = PROBES,
    seed: int = 0,
) -> dict[str, dict[int, float]]:
    """Layer → {bits: ½ Δᵀ H Δ}, in nats for logits.

    Args:
        plan: of the network; its float weights are what the curvature is taken at.
        feeds: samples, {input: [1, …]} each. widths: bits. layers: names. rounding: gives the integers.
        probes: random signs per sample. seed: of them.

    Raises:
        UnsupportedOpError: a layer has no gradient; the message names it.
    """
    by_name = {product.layer.name: product for product in products(plan.topology)}
    moves = {
        name: {bits: _move(by_name[name], rounding(plan, by_name[name], bits)) for bits in widths} for name in layers
    }
    found = {name: dict.fromkeys(row, 0.0) for name, row in moves.items()}
    runs = len(feeds) * probes
    for gradients in _gradients(plan, feeds, probes, seed):
        for name, row in moves.items():
            for bits, move in row.items():
                found[name][bits] += 0.5 * float((gradients[name] * move).sum()) ** 2 / runs
    return found


def traces(
    plan: Plan, feeds: Sequence[Mapping[str, NDArray[np.float32]]], *, probes: int = PROBES, seed: int = 0
) -> dict[str, float]:
    """Trace of each layer's block of H, mean over samples, by layer name. Arguments as of `second_order`."""
    sums: dict[str, float] = {}
    for gradients in _gradients(plan, feeds, probes, seed):
        for name, gradient in gradients.items():
            sums[name] = sums.get(name, 0.0) + float((gradient**2).sum())
    return {name: total / (len(feeds) * probes) for name, total in sums.items()}


def _gradients(
    plan: Plan, feeds: Sequence[Mapping[str, NDArray[np.float32]]], probes: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Jᵀ F^½ z for every layer, [output channels, fan-in]; one for each sample and probe."""
    layers = {product.layer.name: _Floats(product) for product in products(plan.topology)}
    flow, generator = Flow(plan.topology, plan), torch.Generator().manual_seed(seed)
    classes = class_outputs(plan.topology, final_outputs(plan.topology))[0]
    parameters = [layer.rows for layer in layers.values()]
    for feed in feeds:
        inputs = {name: torch.from_numpy(np.array(value)).unsqueeze(0) for name, value in feed.items()}
        (output, *_) = flow.run(inputs, None, layers, {}, {})
        for _ in range(probes):
            signs = torch.randint(0, 2, output.shape, generator=generator).float() * 2 - 1
            found = torch.autograd.grad(
                output, parameters, _root(output.detach(), signs, classes), retain_graph=True, allow_unused=True
            )
            yield {
                name: torch.zeros_like(layer.rows) if gradient is None else gradient
                for (name, layer), gradient in zip(layers.items(), found, strict=True)
            }


def _root(output: Tensor, signs: Tensor, classes: bool) -> Tensor:
    """F^½ z: (diag p − p pᵀ)^½ z over logits, z / ‖output‖ elsewhere."""
    if not classes:
        plain: Tensor = signs / output.norm().clamp_min(_TINY)
        return plain
    chances = output.softmax(-1)
    roots = chances.sqrt()
    rows = max(1, output.numel() // output.shape[-1])
    found: Tensor = (roots * signs - chances * (roots * signs).sum(-1, keepdim=True)) / rows**0.5
    return found


def _move(product: Product, weights: QuantizedWeights) -> Tensor:
    """Δ: what the integers stand for less the float weights, [output channels, fan-in]."""
    scale = weights.scale if weights.scale.ndim == 2 else weights.scale[:, None]
    return torch.from_numpy((weights.values * scale - product.rows).astype(np.float32))
