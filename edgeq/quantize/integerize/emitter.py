"""What the emitters of all ops share: the integer graph under construction and the float values it stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.errors import UnsupportedOpError
from edgeq.integer.arithmetic import quantize, ratio_constants
from edgeq.integer.builder import GraphBuilder, emit, emit_all, set_quant
from edgeq.integer.graph import Quant
from edgeq.quantize.plan import S8, Plan, quant_s8, quant_s16
from edgeq.quantize.policy import LayerPolicy
from edgeq.quantize.topology import Layer, Topology, constant, is_float, name_of, shape_of

Array = NDArray[Any]

#: Readers for whose sake a tensor has 16 bits.
RESIDUAL_READERS = frozenset({"Add", "Sub", "LayerNormalization", "RmsNormalization"})


@dataclass(frozen=True)
class Operand:
    """An integer value and what it means."""

    value: ir.Value
    quant: Quant

    @property
    def extent(self) -> int:
        """Largest |q − zero point| the type allows."""
        low, high = self.quant.limits
        return max(high - self.quant.zero_point, self.quant.zero_point - low)


class Emitter:
    """Builds the integer graph layer by layer.

    Attributes:
        plan, topology: what is emitted.
        builder: the integer graph under construction.
        layer_report: per layer facts for the report (bits, form), filled by the emitters of the ops.
    """

    def __init__(self, plan: Plan, builder: GraphBuilder) -> None:
        self.plan = plan
        self.topology: Topology = plan.topology
        self.builder = builder
        self.layer_report: dict[str, dict[str, Any]] = {}
        self._values: dict[str, Operand] = {}
        self._converted: dict[tuple[str, Quant], Operand] = {}

    # Values ----------------------------------------------------------------------------------------------------------

    def define(self, value: ir.Value, integer: ir.Value, quant: Quant | None = None) -> None:
        """Say which integer value stands for a float value, and name it after that."""
        chosen = quant or self.plan.quant(name_of(value))
        if integer.name != name_of(value):
            integer.name = self.builder.unique(name_of(value))
        set_quant(integer, chosen)
        self._values[name_of(value)] = Operand(integer, chosen)

    def define_integer(self, value: ir.Value, integer: ir.Value) -> None:
        """Say which value stands for one that was an integer before (indices): scale 1, zero point 0."""
        self.define(value, integer, Quant(np.dtype(np.int64), 1.0, 0))

    def passed(self, value: ir.Value) -> ir.Value:
        """The integer graph's counterpart of a value that was an integer before (indices)."""
        return self._values[name_of(value)].value

    def read(self, value: ir.Value, want: Quant | None = None) -> Operand:
        """A float value as integers.

        Args:
            value: of the float graph; constants are quantized on the way.
            want: the quantization it has to have; a Rescale is put in where it has another one.
        """
        array = constant(value)
        if array is not None:
            return self._constant(name_of(value), array, want)
        operand = self._values[name_of(value)]
        if want is None or operand.quant == want:
            return operand
        key = (name_of(value), want)
        if key not in self._converted:
            self._converted[key] = Operand(self.rescale(operand, want), want)
        return self._converted[key]

    def read_s8(self, value: ir.Value) -> Operand:
        """A float value as int8, for ops that take nothing wider."""
        if constant(value) is not None:
            return self.read(value)
        operand = self._values[name_of(value)]
        return operand if operand.quant.dtype == S8 else self.read(value, self.plan.s8(name_of(value)))

    def read_for_product(self, value: ir.Value) -> Operand:
        """A float value as a product with weights wants it: int8, also of a 16-bit tensor if a sum or normalization
        reads that as well. It is for them that it has 16 bits; the product would take twice the time."""
        readers = {layer.op for layer in self.topology.readers(value)}
        return self.read_s8(value) if readers & RESIDUAL_READERS else self.read(value)

    def _constant(self, name: str, array: Array, want: Quant | None) -> Operand:
        quant = want or quant_s8(*self.plan.constant_range(name, array))
        key = (name, quant)
        if key not in self._converted:
            integers = on_grid(array, quant)
            self._converted[key] = Operand(self.builder.constant(integers, name=f"{name}.{quant.dtype}"), quant)
        return self._converted[key]

    def wide_constant(self, value: ir.Value) -> Operand:
        """A constant in s16 over its own range."""
        array = constant(value)
        if array is None:
            return self.read(value)
        return self._constant(name_of(value), array, quant_s16(*self.plan.constant_range(name_of(value), array)))

    @property
    def operands(self) -> Mapping[str, Operand]:
        """By the name of a float value its integers, as far as they are emitted."""
        return self._values

    # Nodes -----------------------------------------------------------------------------------------------------------

    def emit(self, layer: Layer, op: str, inputs: Sequence[ir.Value], suffix: str = "", **attributes: Any) -> ir.Value:
        """One node of domain `edgeq`, named after the layer."""
        return emit(self.builder, op, inputs, name=layer.name + suffix, **attributes)

    def standard(
        self, layer: Layer, op: str, inputs: Sequence[ir.Value | None], outputs: int = 1, **attributes: Any
    ) -> list[ir.Value]:
        """One node of the standard domain, named after the layer."""
        return emit_all(self.builder, op, inputs, outputs, name=layer.name, **attributes)

    def rescale(self, operand: Operand, want: Quant, low: float = -math.inf, high: float = math.inf) -> ir.Value:
        """The same real values on another grid, optionally clamped to [low, high] in real units."""
        multiplier, shift = ratio_constants(operand.quant.scale / want.scale)
        bottom, top = limits(want, low, high)
        return emit(
            self.builder,
            "Rescale",
            [operand.value],
            name=f"{operand.value.name}.to_{want.dtype}",
            quant=want,
            x_zero_point=operand.quant.zero_point,
            multiplier=multiplier,
            shift=shift,
            zero_point=want.zero_point,
            low=bottom,
            high=top,
            to=code(want),
        )

    def clamps(self, layer: Layer, quant: Quant) -> dict[str, Any]:
        """zero_point, low, high and to of the op that makes a layer's output."""
        low, high = limits(quant, layer.low, layer.high)
        return {"zero_point": quant.zero_point, "low": low, "high": high, "to": code(quant)}

    # Answers ---------------------------------------------------------------------------------------------------------

    def policy(self, layer: Layer) -> LayerPolicy:
        """What the policy says about a layer."""
        return self.plan.policy.layer(*layer.names)

    def note(self, layer: Layer, **facts: Any) -> None:
        """Keep facts about a layer for the report."""
        self.layer_report.setdefault(layer.name, {}).update(facts)

    def unsupported(self, layer: Layer, why: str, hint: str | None = None) -> UnsupportedOpError:
        """The error for a layer without an integer form, with the price of running it in float."""
        return UnsupportedOpError(
            f"{layer.op} has no integer form here",
            where=f"layer {layer.name!r}",
            why=why,
            hint=f"{hint + '; ' if hint else ''}{float_cost(layer)}",
        )


def limits(quant: Quant, low: float, high: float) -> tuple[int, int]:
    """A clamp in real units as integers of a quantization, inside its range."""
    bottom, top = quant.limits
    if low > -math.inf:
        bottom = min(max(bottom, quant.zero_point + round(low / quant.scale)), top)
    if high < math.inf:
        top = max(min(top, quant.zero_point + round(high / quant.scale)), bottom)
    return bottom, top


def on_grid(values: Array, quant: Quant) -> Array:
    """Real numbers as integers of a quantization."""
    integers = quantize(values, quant.scale, quant.zero_point, quant.dtype)
    return np.clip(integers, *quant.limits).astype(quant.dtype)


def code(quant: Quant) -> int:
    """ONNX data type number of a quantization's type."""
    return int(ir.DataType.from_numpy(quant.dtype))


def float_cost(layer: Layer) -> str:
    """What --allow-float would cost for a layer: conversions and float work per inference."""
    read = sum(math.prod(shape_of(value)) for value in layer.inputs if is_float(value))
    made = sum(math.prod(shape_of(value)) for value in layer.outputs if is_float(value))
    return (
        f"as a float island (--allow-float) it would cost {read:,} values dequantized and {made:,} quantized again per "
        "inference and need a floating-point unit; this version has no float islands: replace the op in the model"
    )


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute, or the default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def attributes_of(node: ir.Node) -> Mapping[str, Any]:
    """All attributes of a node as plain values."""
    return {name: found.value for name, found in node.attributes.items()}
