"""From the float graph and its quantization plan to the integer graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeq.errors import EdgeqError, UnsupportedOpError
from edgeq.integer.builder import GraphBuilder
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize.calibrate import Ranges
from edgeq.quantize.integerize.emitter import Emitter, Operand, float_cost
from edgeq.quantize.integerize.registry import emitter_of, supported
from edgeq.quantize.plan import Plan
from edgeq.quantize.policy import Policy
from edgeq.quantize.topology import Layer, Topology, is_float, name_of, shape_of

if TYPE_CHECKING:
    from edgeq.frontend.graph import FloatGraph


@dataclass(frozen=True)
class Integerized:
    """An integer graph, per layer what was chosen for it (weight bits, requantize form, …), and what stands for what.

    `operands`: by the name of a value of the float graph its integers.
    """

    graph: IntegerGraph
    layers: dict[str, dict[str, Any]]
    operands: Mapping[str, Operand]


def integerize(
    graph: FloatGraph, ranges: Ranges, policy: Policy | None = None, *, promoted: Collection[str] = ()
) -> IntegerGraph:
    """Make the integer graph.

    Args:
        graph: from the front end.
        ranges: from `calibrate` on the same graph.
        policy: per-layer choices; None = defaults.
        promoted: representatives of the type groups to keep in s16 (`Promotion.groups`).

    Raises:
        UnsupportedOpError: an op has no integer form; the message names its layer and the cost of running it in float.
        PolicyError: the policy names a layer that isn't there.
    """
    from edgeq.quantize.kinds import resolve

    topology = Topology(graph)
    chosen = policy or Policy()
    chosen.check(topology.names())
    chosen = resolve(chosen, topology)
    return build(Plan(topology, ranges, chosen, promoted)).graph


def check_supported(topology: Topology) -> None:
    """See that every layer has an integer form, before any time is spent on calibration.

    Raises:
        UnsupportedOpError: naming the first layer that has none, and how many there are.
    """
    without = [layer for layer in topology.layers if _function_for(topology, layer) is None]
    if without:
        raise _no_integer_form(without)


def build(plan: Plan) -> Integerized:
    """Emit every layer of a planned graph."""
    builder = GraphBuilder(plan.topology.graph.name or "integer")
    emitter = Emitter(plan, builder)
    for value in plan.topology.graph.inputs:
        _emit_input(emitter, value)
    for layer in plan.topology.layers:
        function = _function_for(plan.topology, layer)
        if function is None:
            raise _no_integer_form([layer])
        try:
            function(emitter, layer)
        except EdgeqError as error:
            if error.where and layer.name in error.where:
                raise
            where = f"layer {layer.name!r}" + (f", {error.where}" if error.where else "")
            raise type(error)(error.what, where=where, why=error.why, hint=error.hint) from error
    for value in plan.topology.graph.outputs:
        builder.output(emitter.passed(value), name_of(value))
    return Integerized(builder.finish(calibrated=plan.ranges.calibrated), emitter.layer_report, emitter.operands)


def _emit_input(emitter: Emitter, value: Any) -> None:
    name, shape = name_of(value), shape_of(value)
    if is_float(value):
        quant = emitter.plan.quant(name)
        whole = replace(quant, low=None, high=None)
        entry = emitter.builder.input(name, quant.dtype, shape, whole)
        emitter.define(value, entry, whole)
        if quant != whole:
            # A caller's integers may be any of the type's: the narrow range begins behind a clamp.
            emitter.define(value, emitter.rescale(Operand(entry, whole), quant), quant)
    else:
        emitter.define_integer(value, emitter.builder.input(name, value.dtype.numpy(), shape))


def _function_for(topology: Topology, layer: Layer) -> Any:
    if topology.is_unary(layer):
        # Arithmetic with a scalar or per-channel constant is a function of one tensor as well: a table.
        return emitter_of("Unary")
    return emitter_of(layer.op) if layer.node.domain in ("", "ai.onnx", "edgeq.float") else None


def _no_integer_form(layers: list[Layer]) -> UnsupportedOpError:
    first = layers[0]
    more = f" and {len(layers) - 1} more layers" if len(layers) > 1 else ""
    ops = sorted({layer.op for layer in layers})
    return UnsupportedOpError(
        f"{first.op} has no integer form",
        where=f"layer {first.name!r}{more}",
        why=f"ops without one in this model: {', '.join(ops)}; supported are {', '.join(supported())}",
        hint=float_cost(first),
    )


__all__ = ["Integerized", "build", "check_supported", "integerize"]
