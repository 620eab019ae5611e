"""All weights together, so that every value of the rounded network comes close to the float network's.

Rounding layer by layer can't see that the errors of several layers may cancel, or that a ReLU swallows some of them.
Here the whole network runs with every tensor rounded, the squared error of each tensor against the float network is
added up, and gradients go straight through the roundings (Bengio et al., arXiv 1308.3432) to the weights, their scales
and biases. The float network is the teacher: no labels. That all tensors count and not only the final output is what
keeps a few dozen samples enough: the idea of reconstructing blocks (Li et al., "BRECQ", arXiv 2102.05426), with all
blocks at once.

Weights start inside the bin of the integer they have, as near to the real weight as the bin allows, and move by small
steps of Adam: those at the edge of a bin change their integer, most don't.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeq.integer.graph import Quant
from edgeq.qat.flow import Flow
from edgeq.qat.node import Tensor
from edgeq.quantize.error.fakequant import FakeQuantized, is_rounded
from edgeq.quantize.integerize.weights import ACCUMULATOR_LIMIT, QuantizedWeights
from edgeq.quantize.plan import S32, Plan
from edgeq.quantize.products import Product, bits_of, extent_of, products, read_quant
from edgeq.quantize.promote import activations_of, final_outputs
from edgeq.quantize.samples.tokens import Tokens, find_tokens
from edgeq.quantize.session import Session, default_threads, model_with_outputs
from edgeq.quantize.topology import Topology, name_of, shape_of

Array = NDArray[Any]

#: Fewest and most steps, and activations to spend on all of them.
STEPS, STEPS_MANY, ACTIVATIONS = 150, 400, 8_000_000_000
#: Largest integer of the grid in whose steps the rate of learning is given.
QMAX = 7
#: Most by which a picture is moved, as a share of its size.
MOVED = 1 / 16
#: Distance from the edge of its bin at which a weight starts at least, in steps.
EDGE = 0.05


@dataclass(frozen=True)
class Schedule:
    """How to learn.

    Attributes:
        steps: of Adam; None = 150 to 400, more for smaller networks. batch: samples per step.
        rate: of the weights, in steps of a 4-bit grid of the same range; falls to nothing along a cosine.
        scale_rate: of the logarithms of the scales. bias_rate: of the biases, in deviations of the layer's output.
        final: weight of the final outputs' error beside the mean over all tensors.
        seed: of the order of samples.
    """

    steps: int | None = None
    batch: int = 4
    rate: float = 0.002
    scale_rate: float = 0.0003
    bias_rate: float = 0.001
    final: float = 1.0
    seed: int = 0


def distill(
    plan: Plan,
    samples: Sequence[dict[str, Array]],
    layers: Sequence[Product],
    schedule: Schedule | None = None,
    threads: int | None = None,
) -> dict[str, QuantizedWeights]:
    """Integers, scales and biases of some layers, by layer name.

    Args:
        plan: the network, with weights to start from. samples: feeds. layers: whose weights may change.
        schedule: how to learn. threads: samples run at a time.
    """
    how = schedule or Schedule()
    steps = _affordable(plan.topology, how.batch) if how.steps is None else how.steps
    student = _Student(plan, layers)
    teacher = _Teacher(plan.topology, student.watched, samples)
    optimizer = torch.optim.Adam(student.groups(how, teacher), betas=(0.9, 0.99))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    order = _Order(len(samples), how.seed)
    before = torch.get_num_threads()
    # One thread per sample: results don't depend on how many run at a time, and small products gain nothing by more.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads or default_threads()) as pool:
            for _ in range(steps):
                optimizer.zero_grad()
                tensors = student.tensors()
                leaves = [tensor.detach().requires_grad_() for tensor in tensors]
                chosen = [order.varied(samples[index], student.pictures) for index in order.take(how.batch)]
                found = pool.map(partial(teacher.gradients, student, leaves, final=how.final), chosen)
                gradients = [torch.stack(parts).mean(0) for parts in zip(*found, strict=True)]
                torch.autograd.backward(tensors, gradients)
                optimizer.step()
                falling.step()
    finally:
        torch.set_num_threads(before)
    return student.weights()


def _affordable(topology: Topology, batch: int) -> int:
    return max(STEPS, min(STEPS_MANY, ACTIVATIONS // (batch * max(1, activations_of(topology)))))


class _Order:
    """Samples in random order, each once before any comes again."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._random = count, np.random.default_rng(seed)
        self._waiting: list[int] = []

    def take(self, many: int) -> list[int]:
        while len(self._waiting) < many:
            self._waiting += self._random.permutation(self._count).tolist()
        taken, self._waiting = self._waiting[:many], self._waiting[many:]
        return taken

    def varied(self, feeds: Mapping[str, Array], pictures: Collection[str]) -> dict[str, Array]:
        """A sample with its pictures [1, C, H, W] moved a little, and half of them mirrored: the teacher labels those
        as well, and a few dozen samples are soon known by heart."""
        return {name: self._moved(array) if name in pictures else array for name, array in feeds.items()}

    def _moved(self, picture: Array) -> Array:
        result = picture[..., ::-1] if self._random.random() < 0.5 else picture
        for axis in (2, 3):
            size = picture.shape[axis]
            most = int(size * MOVED)
            away = int(self._random.integers(-most, most + 1))
            result = np.take(result, np.clip(np.arange(size) + away, 0, size - 1), axis)
        return np.ascontiguousarray(result)


class _Layer:
    """A product whose integers, scales and bias are learned.

    Attributes:
        latent: [rows, fan-in], weights in steps. log_scale: [rows, 1], how much the scale has grown.
        bias: [rows], real units.
    """

    def __init__(self, plan: Plan, product: Product, start: QuantizedWeights) -> None:
        self.product, self.start = product, start
        self.x = read_quant(plan, product)
        self.qmax = 2 ** (bits_of(plan, product) - 1) - 1
        self.scale = _tensor(start.scale)[:, None]
        rows, integers = _tensor(product.rows), _tensor(start.values)
        near = (rows / self.scale).clamp(integers - (0.5 - EDGE), integers + (0.5 - EDGE))
        self.latent = near.requires_grad_()
        self.log_scale = torch.zeros_like(self.scale, requires_grad=True)
        self.offset = _tensor(start.bias * (start.scale * self.x.scale))
        self.shift = torch.zeros_like(self.offset, requires_grad=True)
        self.unit = torch.ones_like(self.offset)
        shape = product.rows.shape
        self.places = torch.from_numpy(np.array(product.arrange(np.arange(product.rows.size).reshape(shape))))

    def integers(self) -> Tensor:
        inside = self.latent.clamp(-self.qmax, self.qmax)
        return inside + (inside.round() - inside).detach()

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Weight as the node has it, and bias, in real units."""
        rows = self.integers() * (self.scale * self.log_scale.exp())
        return rows.reshape(-1)[self.places], self.offset + self.shift * self.unit

    def weights(self) -> QuantizedWeights:
        with torch.no_grad():
            values = self.integers().double().numpy()
            scale = (self.scale * self.log_scale.exp()).double().numpy()[:, 0]
            real = (self.offset + self.shift * self.unit).double().numpy()
        bias = np.rint(real / (self.x.scale * scale))
        bound = np.abs(values).sum(axis=1) * extent_of(self.x) + np.abs(bias)
        if bound.max(initial=0) > ACCUMULATOR_LIMIT:
            return self.start
        return QuantizedWeights(values.astype(np.int8), scale, bias.astype(np.int32), bound.astype(np.int64))


class _Given:
    """Weights as tensors that are computed elsewhere."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def weight(self) -> Tensor:
        return self._weight

    @property
    def bias(self) -> Tensor | None:
        return self._bias


class _Student:
    """The network with every tensor rounded and some weights to learn."""

    def __init__(self, plan: Plan, layers: Sequence[Product]) -> None:
        self.flow = Flow(plan.topology, plan)
        twin = FakeQuantized(plan, final_outputs(plan.topology))
        self.layers = [_Layer(plan, product, twin.weights[product.layer.name]) for product in layers]
        learned = {layer.product.layer.name for layer in self.layers}
        self._fixed: dict[str, _Given] = {}
        for product in products(plan.topology):
            if product.layer.name not in learned:
                found, x = twin.weights[product.layer.name], read_quant(plan, product)
                rows = product.arrange(found.values * found.scale[:, None])
                self._fixed[product.layer.name] = _Given(_tensor(rows), _tensor(found.bias * (found.scale * x.scale)))
        self.grids: dict[str, Quant] = {}
        for value in plan.topology.values():
            name = name_of(value)
            if is_rounded(plan, name) and plan.quant(name).dtype != S32:
                self.grids[name] = plan.quant(name)
        finals = final_outputs(plan.topology)
        made = [name for name in self.grids if name in plan.topology.producer]
        self.watched = list(dict.fromkeys([*made, *finals]))
        self.finals = set(finals)
        inputs = {name_of(value): shape_of(value) for value in plan.topology.graph.inputs}
        self.pictures = {name for name, shape in inputs.items() if name in plan.ranges.images and len(shape) == 4}

    def groups(self, how: Schedule, teacher: _Teacher) -> list[dict[str, Any]]:
        """Parameters for the optimizer."""
        for layer in self.layers:
            layer.unit = layer.unit * teacher.deviation(name_of(layer.product.layer.output))
        return [
            *({"params": [layer.latent], "lr": how.rate * layer.qmax / QMAX} for layer in self.layers),
            {"params": [layer.log_scale for layer in self.layers], "lr": how.scale_rate},
            {"params": [layer.shift for layer in self.layers], "lr": how.bias_rate},
        ]

    def tensors(self) -> list[Tensor]:
        """Weight and bias of each learned layer in turns."""
        return [tensor for layer in self.layers for tensor in layer.tensors()]

    def run(self, feeds: Mapping[str, Array], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Every watched value for one sample, as it is before it is rounded: [1, …]."""
        given = dict(self._fixed)
        for layer, weight, bias in zip(self.layers, tensors[::2], tensors[1::2], strict=True):
            given[layer.product.layer.name] = _Given(weight, bias)
        raw: dict[str, Tensor] = {}

        def settle(name: str, value: Tensor) -> Tensor:
            raw[name] = value
            return self._rounded(name, value)

        inputs = {name: torch.from_numpy(array)[None] for name, array in feeds.items()}
        self.flow.trace({name: self._rounded(name, x) for name, x in inputs.items()}, given, {}, settle)
        return raw

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        quant = self.grids.get(name)
        if quant is None:
            return value
        low, high = quant.limits
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(value, quant.scale, quant.zero_point, low, high)
        return rounded

    def weights(self) -> dict[str, QuantizedWeights]:
        return {layer.product.layer.name: layer.weights() for layer in self.layers}


class _Teacher:
    """The float network: what every value should be, and how far it varies.

    Args:
        topology: of the float network. watched: names of values. samples: a few are used for the variances.
    """

    def __init__(self, topology: Topology, watched: Sequence[str], samples: Sequence[dict[str, Array]]) -> None:
        self._names = list(watched)
        self._session = Session(model_with_outputs(topology.model, self._names), self._names)
        self._tokens: Tokens | None = find_tokens(topology)
        found = [self._session.run(feeds) for feeds in samples[:8]]
        self._variance = {
            name: max(float(np.mean([np.var(values[index]) for values in found])), 1e-12)
            for index, name in enumerate(self._names)
        }

    def deviation(self, name: str) -> float:
        """Standard deviation of a value."""
        return float(np.sqrt(self._variance.get(name, 1.0)))

    def gradients(
        self, student: _Student, leaves: Sequence[Tensor], feeds: dict[str, Array], *, final: float
    ) -> list[Tensor]:
        """Gradient of one sample's error by the leaves."""
        found = student.run(feeds, leaves)
        real = None if self._tokens is None else self._tokens.real(feeds)
        loss = torch.zeros(())
        for name, wanted in zip(self._names, self._session.run(feeds), strict=True):
            error = (found[name][0] - torch.from_numpy(wanted)).square()
            axis = None if self._tokens is None else self._tokens.axes.get(name)
            if real is not None and axis is not None:
                error = error.index_select(axis, torch.from_numpy(np.flatnonzero(real)))
            share = 1 / len(self._names) + (final if name in student.finals else 0.0)
            loss = loss + share / self._variance[name] * error.mean()
        return list(torch.autograd.grad(loss, leaves))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))
