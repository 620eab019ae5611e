"""The integer graph: an onnx_ir model of `edgeq` ops and data movement ops, with checked saving and loading."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import edgeq
from edgeq.errors import ModelError
from edgeq.integer import body
from edgeq.integer.arithmetic import dtype_range
from edgeq.integer.registry import (
    DOMAIN,
    DOMAIN_VERSION,
    ONNX_DTYPES,
    OPSET,
    Call,
    Op,
    TensorType,
    complete_attributes,
    lookup,
    output_types,
)

IR_VERSION = 10
SCALE, ZERO_POINT = "edgeq.scale", "edgeq.zero_point"
STORAGE = "edgeq.weights"  # of a node: how its weights are to be stored, `fast` or `small`; no arithmetic reads it
LOW, HIGH = "edgeq.low", "edgeq.high"
CALIBRATED, VERSION = "edgeq.calibrated", "edgeq.version"

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Quant:
    """What the integers of a value stand for: real = scale · (q − zero_point). No arithmetic of the graph reads it.

    `low` and `high` say that the integers use only a part of the type's range (4-bit activations); None = its end.
    """

    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    low: int | None = None
    high: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer in use."""
        bottom, top = dtype_range(self.dtype)
        return bottom if self.low is None else self.low, top if self.high is None else self.high


@dataclass(frozen=True)
class Step:
    """One node with its op and everything inference and proofs ask for."""

    node: ir.Node
    op: Op
    call: Call


class IntegerGraph:
    """A model whose every value is an integer.

    Args:
        model: an onnx_ir model as described in docs/architecture.md; `check()` says whether it is one.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    @property
    def inputs(self) -> list[ir.Value]:
        """Graph inputs that a caller has to give (initializers are none)."""
        return [v for v in self.model.graph.inputs if v.name not in self.model.graph.initializers]

    @property
    def outputs(self) -> list[ir.Value]:
        """Graph outputs in order."""
        return list(self.model.graph.outputs)

    @property
    def calibrated(self) -> bool:
        """False where the ranges come from random data (`--calib random`)."""
        return bool(self.model.metadata_props.get(CALIBRATED) != "false")

    def value(self, name: str) -> ir.Value:
        """The value of that name.

        Raises:
            ModelError: there is none.
        """
        for value in self.values():
            if value.name == name:
                return value
        raise ModelError("no such value in the integer graph", where=name)

    def values(self) -> Iterator[ir.Value]:
        """All values: inputs, initializers, outputs of nodes."""
        yield from self.inputs
        yield from self.model.graph.initializers.values()
        for node in self.model.graph:
            yield from node.outputs

    def quant(self, value: ir.Value | str) -> Quant:
        """dtype, scale (real units per step) and zero point of a value.

        Raises:
            ModelError: no such value, or it carries no (valid) scale.
        """
        found = self.value(value) if isinstance(value, str) else value
        props = found.metadata_props
        try:
            ends = [int(props[key]) if key in props else None for key in (LOW, HIGH)]
            return Quant(tensor_type(found).dtype, float(props[SCALE]), int(props.get(ZERO_POINT, "0")), *ends)
        except (KeyError, ValueError) as error:
            raise ModelError(
                "a value has no scale",
                where=found.name,
                why=f"its metadata is {dict(props)}",
                hint="quantize the model again",
            ) from error

    def steps(self) -> Iterator[Step]:
        """Nodes in order, each with its op and call.

        Raises:
            ModelError: a node isn't valid (UnsupportedOpError: unknown).
        """
        for node in self.model.graph:
            yield step_of(node)

    def check(self) -> None:
        """Check the whole graph: opsets, functions, every node's inputs, attributes, dtypes and shapes, order, names.

        Raises:
            ModelError: naming the node or value and what is wrong with it.
        """
        self._check_opsets()
        graph = self.model.graph
        if not self.outputs:
            raise ModelError("the integer graph has no outputs", hint="the file may be truncated")
        known = {v.name for v in (*self.inputs, *graph.initializers.values())}
        for value in (*self.inputs, *graph.initializers.values()):
            tensor_type(value)
        used: set[str] = set()
        for step in self.steps():
            missing = [v.name for v in step.node.inputs if v is not None and v.name not in known]
            if missing:
                raise step.call.fail(f"nothing before it makes its input {missing[0]}")
            for value, inferred in zip(step.node.outputs, output_types(step.op, step.call), strict=True):
                if value.name in known:
                    raise step.call.fail(f"the name of its output, {value.name!r}, is used twice")
                known.add(value.name)
                if tensor_type(value) != inferred:
                    raise step.call.fail(f"output {value.name} is declared {tensor_type(value)}, it is {inferred}")
            if step.op.domain == DOMAIN:
                used.add(step.op.name)
        for output in self.outputs:
            if output.name not in known:
                raise ModelError("a graph output is never computed", where=output.name)
        self._check_functions(used)

    def _check_opsets(self) -> None:
        found = self.model.opset_imports
        if DOMAIN not in found:
            raise ModelError(
                "not an integer graph",
                why=f"it doesn't import the domain {DOMAIN!r}",
                hint="make one with `edgeq quantize`",
            )
        if found[DOMAIN] != DOMAIN_VERSION or found.get("") != OPSET:
            raise ModelError(
                "the integer graph is of another version",
                why=f"it imports {DOMAIN} {found[DOMAIN]} and ONNX opset {found.get('')}; "
                f"this edgeq knows {DOMAIN} {DOMAIN_VERSION} on opset {OPSET}",
                hint="quantize the model again with this version",
            )

    def _check_functions(self, used: set[str]) -> None:
        for name in sorted(used):
            found = self.model.functions.get((DOMAIN, name, ""))
            if found is None:
                raise ModelError(f"the function of {DOMAIN}.{name} is missing", hint="the file may be truncated")
            if ir.serde.serialize_function(found) != ir.serde.serialize_function(function_of(name)):
                raise ModelError(
                    f"the function of {DOMAIN}.{name} is not the one of this version",
                    why="its body differs, so that other runtimes would compute something else",
                    hint="quantize the model again with this version",
                )

    def to_bytes(self) -> bytes:
        """The ONNX file's content."""
        return bytes(ir.serde.serialize_model(self.model).SerializeToString(deterministic=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ONNX file. It appears whole or not at all.

        Raises:
            ModelError: the place can't be written.
        """
        target, temporary = Path(path), None
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
                temporary = Path(file.name)
                file.write(self.to_bytes())
            temporary.chmod(0o644)
            os.replace(temporary, target)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise ModelError(
                "the integer graph can't be written", where=str(target), why=str(error.strerror)
            ) from error

    @staticmethod
    def load(path: str | os.PathLike[str]) -> IntegerGraph:
        """Read and check an ONNX file that `save` wrote.

        Raises:
            ModelError: it can't be read, is no ONNX file, is truncated, or is not an integer graph of this version.
        """
        where = str(path)
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ModelError("the integer graph can't be read", where=where, why=str(error.strerror)) from error
        return IntegerGraph.from_bytes(data, where)

    @staticmethod
    def from_bytes(data: bytes, where: str = "bytes") -> IntegerGraph:
        """As `load`, from the file's content; `where` names it in errors."""
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(data)
        except DecodeError as error:
            raise ModelError("not an ONNX file, or truncated", where=where, why=str(error)) from error
        if not proto.HasField("graph"):
            raise ModelError("not an ONNX file, or truncated", where=where, why="it holds no graph")
        try:
            graph = IntegerGraph(ir.serde.deserialize_model(proto))
        except Exception as error:  # whatever onnx_ir meets in a broken file is a fault of the file
            raise ModelError("the ONNX file is broken", where=where, why=_reason(error)) from error
        try:
            graph.check()
        except ModelError as error:
            place = where if error.where is None else f"{where}: {error.where}"
            raise type(error)(error.what, where=place, why=error.why, hint=error.hint) from error
        except Exception as error:  # e.g. names that are no text: onnx_ir reads them and fails on writing
            raise ModelError("the ONNX file is broken", where=where, why=_reason(error)) from error
        return graph


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def function_of(name: str) -> ir.Function:
    """The ONNX function of an edgeq op, as onnx_ir holds it."""
    return ir.serde.deserialize_function(body.function(lookup(name, DOMAIN)))


def constant_of(value: ir.Value) -> Array | None:
    """The value of an initializer, None for anything else.

    Raises:
        ModelError: its data don't match its type.
    """
    if value.const_value is None:
        return None
    try:
        return np.asarray(value.const_value.numpy())
    except (ValueError, TypeError, OSError) as error:
        raise ModelError("an initializer is broken", where=value.name, why=str(error)) from error


def tensor_type(value: ir.Value) -> TensorType:
    """dtype and shape of a value.

    Raises:
        ModelError: unknown, not static, or not an integer type (float only in constants, as Resize's scales).
    """
    constant = constant_of(value)
    if constant is not None:
        return TensorType(constant.dtype, tuple(constant.shape))
    if value.dtype is None or value.shape is None:
        raise ModelError("a value has no type or shape", where=value.name)
    dtype = ONNX_DTYPES.get(int(value.dtype))
    if dtype is None:
        raise ModelError("a value is not an integer", where=value.name, why=f"it is {value.dtype.name}")
    if not all(isinstance(n, int) for n in value.shape):
        raise ModelError("a shape is not static", where=value.name, why=f"it is {value.shape}")
    return TensorType(dtype, tuple(int(str(n)) for n in value.shape))


def step_of(node: ir.Node) -> Step:
    """The op and call of a node.

    Raises:
        UnsupportedOpError: no such op. ModelError: an attribute or type is not valid.
    """
    op = lookup(node.op_type, node.domain, where=node.name)
    types = tuple(None if v is None else tensor_type(v) for v in node.inputs)
    while types and types[-1] is None:
        types = types[:-1]
    constants = tuple(None if v is None else constant_of(v) for v in node.inputs)[: len(types)]
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    where = f"{node.op_type} '{node.name}'"
    attrs = complete_attributes(op, given, types, where)
    return Step(node, op, Call(node.op_type, node.name or "", types, constants, attrs, len(node.outputs)))


def new_metadata(calibrated: bool) -> dict[str, str]:
    """Model metadata of a fresh integer graph."""
    return {CALIBRATED: "true" if calibrated else "false", VERSION: edgeq.__version__}
