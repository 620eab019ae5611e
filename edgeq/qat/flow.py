"""The float graph on batches, differentiable, with the integer graph's values in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edgeq.errors import UnsupportedOpError
from edgeq.qat.float_ops import FLOAT
from edgeq.qat.node import Form, Node, Tensor
from edgeq.quantize.integerize.emitter import attributes_of
from edgeq.quantize.plan import S8, Plan
from edgeq.quantize.topology import Layer, Topology, clamp_of, constant, is_float, name_of

if TYPE_CHECKING:
    from edgeq.qat.quantizers import ActivationQuantizer

#: Points at which a function of a tensor that isn't int8 is differentiated.
_POINTS = 1025


class Weighted(Protocol):
    """Weights of a product, in real units."""

    def weight(self) -> Tensor:
        """In the layout of the float graph's node."""

    @property
    def bias(self) -> Tensor | None:
        """[output channels]."""


class Flow:
    """Runs the layers of a float graph of batch 1 on batches [samples, 1, …].

    Args:
        topology: of the float graph. plan: its quantization, read while running (scales change in training).
    """

    def __init__(self, topology: Topology, plan: Plan) -> None:
        self.topology, self.plan = topology, plan
        self._constants: dict[str, Tensor] = {}
        for layer in topology.layers:
            known = topology.is_unary(layer) or clamp_of(layer.node) is not None or layer.op == "Cast"
            if not known and layer.op not in FLOAT:
                raise UnsupportedOpError(
                    f"{layer.op} has no gradient here",
                    where=f"layer {layer.name!r}",
                    why=f"trained through are {', '.join(sorted(FLOAT))} and functions of one tensor",
                    hint="put it outside of the module that is prepared",
                )

    def run(
        self,
        inputs: Mapping[str, Tensor],
        exact: Mapping[str, Tensor] | None,
        products: Mapping[str, Weighted],
        activations: Mapping[str, ActivationQuantizer],
        constants: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """Outputs of the graph, [samples, 1, …].

        Args:
            inputs: by name, on their grids.
            exact: every float value as the integer graph computes it; None = rounded floats instead.
            products: weights by layer name.
            activations: quantizers by scale group.
            constants: trained constants by name.
        """
        values = self.trace(
            inputs, products, constants, lambda name, value: self._settled(name, value, exact, activations)
        )
        return [values[name_of(value)] for value in self.topology.graph.outputs]

    def trace(
        self,
        inputs: Mapping[str, Tensor],
        products: Mapping[str, Weighted],
        constants: Mapping[str, Tensor],
        settle: Callable[[str, Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """Every value of the graph by name, [samples, 1, …].

        Args:
            inputs, products, constants: as of `run`.
            settle: (name, computed float value) → what its readers get.
        """
        values = dict(inputs)
        for layer in self.topology.layers:
            results = self._layer(layer, values, products, constants)
            for value, result in zip(layer.outputs, results, strict=False):
                values[name_of(value)] = settle(name_of(value), result) if is_float(value) else result
        return values

    def _settled(
        self, name: str, y: Tensor, exact: Mapping[str, Tensor] | None, activations: Mapping[str, ActivationQuantizer]
    ) -> Tensor:
        """A computed value on its grid, with the integer graph's value and this one's gradient."""
        if self.plan.ties.is_root(name):
            quantizer = activations.get(self.plan.ties.scales.find(name))
            if quantizer is not None:
                y = quantizer(y)
        found = None if exact is None else exact.get(name)
        return y if found is None else y + (found - y).detach()

    def _layer(
        self,
        layer: Layer,
        values: Mapping[str, Tensor],
        products: Mapping[str, Weighted],
        constants: Mapping[str, Tensor],
    ) -> tuple[Tensor, ...]:
        x = values[name_of(layer.inputs[0])]
        if layer.op == "Cast":
            return (x.float() if is_float(layer.output) else x.long(),)
        if self.topology.is_unary(layer):
            return (self._unary(layer, x),)
        if clamp_of(layer.node) is not None and layer.op in ("Relu", "Clip"):
            low, high = clamp_of(layer.node) or (None, None)
            return (x.clamp(low, high),)
        operands, batched = self._operands(layer, values, products, constants, x.device)
        arrays = [constant(value) for value in layer.node.inputs]
        results = _batched(FLOAT[layer.op], operands, batched, attributes_of(layer.node), arrays, len(layer.outputs))
        bias = products[layer.name].bias if layer.name in products else None
        if bias is not None and not _takes_bias(layer):
            shaped = bias if layer.op == "MatMul" else bias.reshape(-1, 1, 1)
            results = tuple(result + shaped for result in results)
        if layer.clamped:
            results = tuple(result.clamp(layer.low, layer.high) for result in results)
        return results

    def _operands(
        self,
        layer: Layer,
        values: Mapping[str, Tensor],
        products: Mapping[str, Weighted],
        constants: Mapping[str, Tensor],
        device: torch.device,
    ) -> tuple[list[Tensor | None], list[bool]]:
        """Inputs of a layer, and which of them have a batch."""
        operands: list[Tensor | None] = []
        for position, value in enumerate(layer.node.inputs):
            product = products.get(layer.name)
            if value is None or name_of(value) in values:
                operands.append(None if value is None else values[name_of(value)])
            elif product is not None and position == 1:
                operands.append(product.weight())
            elif product is not None and position == 2:
                operands.append(product.bias)
            else:
                operands.append(constants.get(name_of(value), self._fixed(value, device)))
        batched = [value is not None and name_of(value) in values for value in layer.node.inputs]
        return operands, batched

    def _fixed(self, value: ir.Value, device: torch.device) -> Tensor | None:
        name = name_of(value)
        held = self._constants.get(name)
        if held is None or held.device != device:
            array = constant(value)
            if array is None:
                return None
            self._constants[name] = held = torch.from_numpy(np.array(array)).to(device)
        return held

    # Functions of one tensor -----------------------------------------------------------------------------------------

    def _unary(self, layer: Layer, x: Tensor) -> Tensor:
        """f(x) from a table over the input's grid, with the slope between its neighbours as derivative."""
        factor = self.plan.accumulator_factor(name_of(layer.output))
        if factor is not None:
            return x * factor
        function = self.topology.source.unary(layer.node)
        points = self._points(name_of(layer.inputs[0]))
        found = np.nan_to_num(np.asarray(function(points), dtype=np.float64), posinf=0.0, neginf=0.0)
        slopes = np.gradient(found, points, axis=-1)
        step = float(points[1] - points[0])
        index = ((x.detach() - float(points[0])) / step).round().long().clamp(0, len(points) - 1)
        if function.channels is not None and function.axis is not None:
            index = index + self._offsets(index, function.axis, len(points))
        value, slope = (_looked_up(table, index, x) for table in (found, slopes))
        return value + slope * (x - x.detach())

    def _points(self, name: str) -> NDArray[np.float64]:
        quant = self.plan.quant(name)
        low, high = quant.limits
        if quant.dtype == S8:
            return np.asarray((np.arange(low, high + 1) - quant.zero_point) * float(quant.scale), dtype=np.float64)
        points: NDArray[np.float64] = np.linspace(float(low), float(high), _POINTS, dtype=np.float64)
        return np.asarray((points - quant.zero_point) * float(quant.scale), dtype=np.float64)

    @staticmethod
    def _offsets(index: Tensor, axis: int, points: int) -> Tensor:
        """Where each channel's table begins; `axis` counts without the samples."""
        shape = [1] * index.dim()
        position = axis % (index.dim() - 1) + 1
        shape[position] = -1
        return (torch.arange(index.shape[position], device=index.device) * points).reshape(shape)


def _takes_bias(layer: Layer) -> bool:
    """Whether the op has its bias as an input; else it is added behind."""
    return layer.op != "MatMul" and len(layer.node.inputs) > 2 and layer.node.inputs[2] is not None


def _looked_up(table: NDArray[np.float64], index: Tensor, like: Tensor) -> Tensor:
    flat = torch.from_numpy(table.astype(np.float32).reshape(-1)).to(like.device)
    return flat[index]


def _batched(
    form: Form,
    operands: list[Tensor | None],
    batched: list[bool],
    attrs: Mapping[str, Any],
    arrays: list[NDArray[Any] | None],
    outputs: int,
) -> tuple[Tensor, ...]:
    """A form for one sample on a batch; constants go in as they are."""
    moving = [value for value, has in zip(operands, batched, strict=True) if has and value is not None]

    def sample(*parts: Tensor) -> Any:
        rest = iter(parts)
        inputs = [next(rest) if has else value for value, has in zip(operands, batched, strict=True)]
        return form(Node(inputs, attrs, arrays, outputs))

    found: Any = torch.vmap(sample)(*moving)
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)
