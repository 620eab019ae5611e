"""The float graph: what the front end hands to the quantizer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeq.errors import DataError, ModelError
from edgeq.frontend.arrays import Array
from edgeq.frontend.editing import describe
from edgeq.frontend.regions import lone_region
from edgeq.frontend.unary import Step, UnaryFunction, operand_axis

if TYPE_CHECKING:
    import onnxruntime

FLOAT_DOMAIN = "edgeq.float"
#: Names of functions of one tensor, made by FuseUnary; the domain has other functions as well.
UNARY_PREFIX = "Unary_"
# ONNX Runtime reads IR version 10 since its release 1.19; nothing in a float graph needs a newer one.
_IR_VERSION = 10


@dataclass
class FloatGraph:
    """A simplified model of standard ONNX ops with static shapes (docs/architecture.md, "Float graph").

    Attributes:
        model: the graph; ops of domain `edgeq.float` are local functions of one tensor.
        source: the file it came from, for messages.
        notes: what the front end decided on its own and a person may want to know.
    """

    model: ir.Model
    source: str
    notes: list[str] = field(default_factory=list)
    _sessions: dict[tuple[tuple[str, ...], int], Any] = field(default_factory=dict, repr=False)

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    @property
    def inputs(self) -> list[ir.Value]:
        """Graph inputs in order (static shapes)."""
        return list(self.model.graph.inputs)

    @property
    def outputs(self) -> list[ir.Value]:
        """Graph outputs in order (static shapes)."""
        return list(self.model.graph.outputs)

    @property
    def nodes(self) -> list[ir.Node]:
        """Nodes in execution order."""
        return list(self.model.graph)

    def value(self, name: str) -> ir.Value:
        """The value called `name`.

        Raises:
            ModelError: there is none.
        """
        for value in self.values():
            if value.name == name:
                return value
        raise ModelError(f"The float graph has no value '{name}'", where=self.source)

    def values(self) -> Iterable[ir.Value]:
        """Graph inputs and every node output, in execution order."""
        yield from self.model.graph.inputs
        for node in self.model.graph:
            yield from node.outputs

    def run(
        self, inputs: Mapping[str, npt.ArrayLike], keep: Iterable[str] | None = None, *, threads: int = 0
    ) -> dict[str, Array]:
        """Run the graph once through ONNX Runtime.

        Args:
            inputs: one array per graph input, with the graph's shape and dtype.
            keep: names of values to return besides the graph outputs; None for the outputs alone.
            threads: threads inside one op; 0 leaves it to ONNX Runtime.

        Returns:
            {value name: array}, graph outputs first.

        Raises:
            DataError: an input is missing, unknown, or of another shape or dtype.
            ModelError: `keep` names a value the graph doesn't have, or ONNX Runtime can't run the graph.
        """
        kept = tuple(sorted(set(keep or ()) - {value.name for value in self.outputs}))
        feeds = self._feeds(inputs)
        session = self.session(kept, threads)
        names = [output.name for output in session.get_outputs()]
        try:
            results = session.run(names, {name: feeds[name] for name in feeds})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError("ONNX Runtime failed to run the float graph", where=self.source, why=str(error)) from error
        found = dict(zip(names, results, strict=True))
        for name in kept:
            if name in feeds:
                found[name] = feeds[name]
        return found

    def session(self, keep: Iterable[str] = (), threads: int = 0) -> onnxruntime.InferenceSession:
        """An ONNX Runtime session that also outputs the values named in `keep`; made once and remembered.

        Sessions may be used by several threads at once. The graph must not be changed afterwards.

        Raises:
            ModelError: unknown value name, or ONNX Runtime rejects the graph.
        """
        key = (tuple(sorted(set(keep))), threads)
        if key not in self._sessions:
            self._sessions[key] = self._make_session(*key)
        return self._sessions[key]

    def _make_session(self, keep: tuple[str, ...], threads: int) -> onnxruntime.InferenceSession:
        import onnxruntime

        proto = ir.to_proto(self.model)
        proto.ir_version = _IR_VERSION
        known = {value.name: value for value in self.values()}
        present = {value.name for value in (*self.inputs, *self.outputs)}
        for name in keep:
            if name not in known:
                raise ModelError(f"The float graph has no value '{name}' to keep", where=self.source)
            if name not in present:
                proto.graph.output.append(ir.to_proto(known[name]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # By default the runtime computes DequantizeLinear + MatMul in 8 bits: that would not be the float graph.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError("ONNX Runtime can't load the float graph", where=self.source, why=str(error)) from error

    def _feeds(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
        expected = {value.name: value for value in self.inputs}
        unknown = sorted(set(inputs) - set(expected))
        missing = sorted(set(expected) - set(inputs))
        if unknown or missing:
            wrong = [("unknown", unknown), ("missing", missing)]
            raise DataError(
                f"The model's inputs are {', '.join(sorted(expected))}",
                where=self.source,
                why="; ".join(f"{label}: {', '.join(names)}" for label, names in wrong if names),
            )
        return {name: self._feed(value, inputs[name]) for name, value in expected.items()}

    def _feed(self, value: ir.Value, given: npt.ArrayLike) -> Array:
        array = np.asarray(given)
        shape, dtype = tuple(value.shape), value.dtype.numpy()
        if array.shape != shape or array.dtype != dtype:
            raise DataError(
                f"Input '{value.name}' must be {dtype} {list(shape)}",
                where=self.source,
                why=f"it is {array.dtype} {list(array.shape)}",
            )
        return np.ascontiguousarray(array)

    def is_unary(self, node: ir.Node) -> bool:
        """True if `unary(node)` gives a function."""
        if node.domain == FLOAT_DOMAIN:
            return bool(node.op_type.startswith(UNARY_PREFIX))
        return lone_region(node) is not None

    def unary(self, node: ir.Node) -> UnaryFunction:
        """The function of one tensor that `node` computes, callable on float64 points.

        Args:
            node: a call of a `Unary_<n>` function, or an elementwise op with one non-constant input and
                constants that are scalars or vary along one channel axis.

        Returns:
            f; `f(points)` is float64 [P], or [channels, P] where `f.channels` is set (`f.axis` is then the axis
            of the node's input along which it varies).

        Raises:
            ModelError: the node isn't a function of one tensor.
        """
        if self.is_unary(node):
            if node.domain == FLOAT_DOMAIN:
                return _function_of(self.model.functions[node.op_identifier()], node)
            region = lone_region(node)
            assert region is not None
            return region.function()
        raise ModelError(
            f"{describe(node)} is not an elementwise function of one tensor",
            where=self.source,
            hint="ask is_unary(node) first",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the float graph as an ONNX file."""
        self.model.ir_version = _IR_VERSION
        ir.save(self.model, Path(path))


def _function_of(function: ir.Function, call: ir.Node) -> UnaryFunction:
    value = call.inputs[0]
    assert value is not None
    shape = tuple(int(dim) for dim in value.shape)
    constants: dict[ir.Value, Array] = {}
    steps = []
    for node in function:
        if node.op_type == "Constant":
            constants[node.outputs[0]] = node.attributes["value"].as_tensor().numpy()
            continue
        operands = tuple(None if v is None else constants.get(v, v.name) for v in node.inputs)
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        steps.append(Step(node.op_type, operands, attributes, node.outputs[0].name))
    _, axis = operand_axis([array.shape for array in constants.values()], shape)
    channels = None if axis is None else shape[axis]
    return UnaryFunction(function.inputs[0].name, function.outputs[0].name, tuple(steps), len(shape), axis, channels)
