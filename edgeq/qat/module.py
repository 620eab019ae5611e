"""The module that is trained: values of the integer graph, gradients of the float graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from edgeq.errors import CompileError, DataError
from edgeq.frontend.graph import FloatGraph
from edgeq.integer.graph import IntegerGraph, Quant
from edgeq.qat.executor import Executor, check_forms
from edgeq.qat.flow import Flow
from edgeq.qat.node import Tensor
from edgeq.qat.quantizers import ActivationQuantizer, ProductLayer, WeightLayer, is_scale
from edgeq.quantize.calibrate import Ranges
from edgeq.quantize.integerize import Integerized, build
from edgeq.quantize.integerize.weights import keep_integers
from edgeq.quantize.plan import S8, Plan
from edgeq.quantize.policy import Policy
from edgeq.quantize.products import bits_of, extent_of, products, read_quant
from edgeq.quantize.topology import StoredIntegers, Topology, constant, is_float, name_of

#: Constant operands of these ops are trained: γ and β, positions, class tokens, tables of embeddings.
_TRAINED_CONSTANTS = ("LayerNormalization", "RmsNormalization", "Add", "Sub", "Mul", "Concat", "Gather")


class QatModule(nn.Module):
    """A float graph whose forward pass is that of its integer graph.

    Made by `edgeq.qat.prepare`. Inputs are tensors [samples, …] as the original module takes them, outputs its outputs
    in real units. In training every value is the integer graph's, dequantized; gradients are those of the float graph
    with quantized weights, straight through the roundings and zero where a value was clamped. In evaluation only the
    integer graph runs: the outputs are the artifact's, bit for bit.

    Attributes:
        products: by layer name the weights, Brevitas layers.
        activations: quantizers with a learned scale; `groups` says of which tensors.
        constants: γ, β, positions and other trained constants.
        exact: simulate the integer graph in training too. False trains faster, on rounded floats; evaluation is the
            same.
    """

    def __init__(self, graph: FloatGraph, ranges: Ranges, policy: Policy) -> None:
        super().__init__()
        self.graph, self.topology, self.exact = graph, Topology(graph), True
        self.plan = Plan(self.topology, ranges, policy)
        self._products = products(self.topology)
        self.products = nn.ModuleDict(
            {key_of(p.layer.name): ProductLayer(p, bits_of(self.plan, p)) for p in self._products}
        )
        self.groups = {key_of(name): name for name in self._learned_groups()}
        self.activations = nn.ModuleDict(
            {key: ActivationQuantizer(self.plan.quant(name)) for key, name in self.groups.items()}
        )
        self._constant_names = {key_of(name): name for name in self._trained_constants()}
        self.constants = nn.ParameterDict(
            {key: nn.Parameter(torch.from_numpy(self._constant(name))) for key, name in self._constant_names.items()}
        )
        self._flow = Flow(self.topology, self.plan)
        self._built: tuple[tuple[Any, ...], Integerized, Executor] | None = None
        check_forms(self.integer_graph())

    # What is trained -------------------------------------------------------------------------------------------------

    def _learned_groups(self) -> list[str]:
        """Scale groups that are int8 throughout, made by arithmetic and not fixed by a softmax or a mask."""
        found: dict[str, str] = {}
        inputs = {self.plan.ties.scales.find(name_of(v)) for v in self.topology.graph.inputs if is_float(v)}
        barred: set[str] = set(inputs)
        for value in self.topology.values():
            name = name_of(value)
            if name not in self.plan.ties.scales:
                continue
            group, tensor = self.plan.ties.scales.find(name), self.plan.tensor(name)
            if tensor.reason not in ("default", "policy") or tensor.quant.dtype != S8:
                barred.add(group)
            found.setdefault(group, group)
        return [name for group, name in found.items() if group not in barred]

    def _trained_constants(self) -> list[str]:
        names: dict[str, None] = {}
        product_nodes = {id(p.layer.node) for p in self._products}
        for layer in self.topology.layers:
            if layer.op not in _TRAINED_CONSTANTS or id(layer.node) in product_nodes or self.topology.is_unary(layer):
                continue
            for value in layer.node.inputs:
                array = constant(value)
                if value is not None and array is not None and array.dtype == np.float32 and array.size > 1:
                    names[name_of(value)] = None
        return [name for name in names if name in self.topology.graph.initializers]

    def _constant(self, name: str) -> NDArray[np.float32]:
        return np.array(self.topology.graph.initializers[name].const_value.numpy())

    def parameter_groups(self, lr: float, scale_lr: float | None = None) -> list[dict[str, Any]]:
        """Parameters for an optimizer: weights with learning rate `lr`, scales with `scale_lr` (default: the same).

        Scales get no weight decay: on their logarithmic axis it would pull them towards 1.
        """
        named = list(self.named_parameters())
        return [
            {"params": [p for n, p in named if not is_scale(n)], "lr": lr},
            {"params": [p for n, p in named if is_scale(n)], "lr": scale_lr or lr, "weight_decay": 0.0},
        ]

    # The integer graph -----------------------------------------------------------------------------------------------

    def integer_graph(self) -> IntegerGraph:
        """The integer graph of the parameters as they are.

        Raises:
            CompileError: a sum could leave 32 bits.
        """
        return self._current()[0].graph

    def _current(self) -> tuple[Integerized, Executor]:
        device = next(self.parameters()).device
        variants = [self._product(product.layer.name).variant for product in self._products]
        state = (str(device), *variants, *((id(p), p._version) for p in self.parameters()))
        if self._built is None or self._built[0] != state:
            built = self._integerize()
            self._built = (state, built, Executor(built.graph, device))
        return self._built[1], self._built[2]

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module. Brevitas replaces the parameters of its scales: make the optimizer afterwards."""
        self._built = None
        return super().load_state_dict(*args, **kwargs)

    def _integerize(self) -> Integerized:
        for key, name in self._constant_names.items():
            array = self.constants[key].detach().cpu().numpy().astype(np.float32)
            self.topology.graph.initializers[name].const_value = ir.tensor(np.ascontiguousarray(array), name=name)
        # Their ranges move with training; a plan would keep those of its first graph.
        self.plan.constants.clear()
        self.plan.decide({self.groups[key]: self._activation(key).quant() for key in self.groups})
        for product in self._products:
            layer = self._product(product.layer.name)
            values, scale = layer.integers()
            stored = StoredIntegers(values, scale, np.zeros_like(values))
            bias = None if layer.bias is None else layer.bias.detach().cpu().numpy()
            x = read_quant(self.plan, product)
            kept = keep_integers(stored, bias, x_scale=x.scale, x_extent=extent_of(x))
            if kept is None:
                raise CompileError(
                    "a layer's sums could leave 32 bits, or its scales are not positive numbers",
                    where=f"layer {product.layer.name!r}",
                    hint="training diverged: lower the learning rate, above all that of the scales",
                )
            self.plan.weights[product.layer.name] = kept
        return build(self.plan)

    def _activation(self, key: str) -> ActivationQuantizer:
        found = self.activations[key]
        assert isinstance(found, ActivationQuantizer)
        return found

    def _product(self, name: str) -> WeightLayer:
        found = self.products[key_of(name)]
        assert isinstance(found, WeightLayer)
        return found

    # Running ---------------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Outputs in real units for inputs [samples, …]; a tuple where the module has several."""
        batches = self._batches(inputs)
        exact: Mapping[str, Tensor] | None = None
        if self.exact or not self.training:
            exact = self._exact(batches)
        if not self.training and exact is not None:
            results = [exact[name_of(value)] for value in self.topology.graph.outputs]
        else:
            results = self._flow.run(
                {
                    name: _on_grid(batch, self.plan.quant(name)) if batch.is_floating_point() else batch
                    for name, batch in batches.items()
                },
                exact,
                {p.layer.name: self._product(p.layer.name) for p in self._products},
                {name: self._activation(key) for key, name in self.groups.items()},
                {name: self.constants[key] for key, name in self._constant_names.items()},
            )
        flat = [result.flatten(0, 1) if result.dim() > 1 else result for result in results]
        return flat[0] if len(flat) == 1 else tuple(flat)

    def _batches(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Inputs by name as [samples, 1, …]."""
        values = list(self.topology.graph.inputs)
        if len(inputs) != len(values):
            raise DataError(f"The module takes {len(values)} inputs, {len(inputs)} are given")
        found = {}
        for value, given in zip(values, inputs, strict=True):
            shape = tuple(int(size) for size in value.shape)
            if tuple(given.shape[1:]) != shape[1:]:
                raise DataError(
                    f"Input '{value.name}' must be [samples, {', '.join(map(str, shape[1:]))}]",
                    why=f"it is {list(given.shape)}",
                )
            found[name_of(value)] = given.unsqueeze(1)
        return found

    def _exact(self, batches: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every float value of the graph as the integer graph computes it, in real units; integers stay integers."""
        built, executor = self._current()
        integers = {}
        for name, batch in batches.items():
            quant = self.plan.quant(name) if batch.is_floating_point() else None
            integers[name] = batch if quant is None else _integers(batch, quant)
        values = executor.run(integers)
        return {
            name: values[str(operand.value.name)]
            if operand.quant.dtype == np.int64
            else _real(values[str(operand.value.name)], operand.quant)
            for name, operand in built.operands.items()
            if str(operand.value.name) in values
        }


def _integers(x: Tensor, quant: Quant) -> Tensor:
    """As `edgeq.integer.arithmetic.quantize`: clip(rint(x · float32(1/scale)) + zero point) to the type's range."""
    steps = torch.round(x.float() * float(np.float32(1.0 / quant.scale))).double() + quant.zero_point
    info = np.iinfo(quant.dtype)
    return steps.clamp(info.min, info.max).long()


def _real(q: Tensor, quant: Quant) -> Tensor:
    """As `edgeq.integer.arithmetic.dequantize`: float32(scale) · (q − zero point)."""
    return (q - quant.zero_point).float() * float(np.float32(quant.scale))


def _on_grid(x: Tensor, quant: Quant) -> Tensor:
    return _real(_integers(x, quant).clamp(*quant.limits), quant)


def key_of(name: str) -> str:
    """A layer's or tensor's name as torch takes it for a submodule."""
    return name.replace(".", "_")


__all__ = ["QatModule"]
