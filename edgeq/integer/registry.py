"""What an op of the integer graph is: schema, inference, reference, interval proof, function body; the table of ops.

An op's file under `ops/` makes one `Op` and registers it. Builder, reference, oracle and proofs work on the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.integer.arithmetic import dtype_range
from edgeq.integer.intervals import Interval

if TYPE_CHECKING:
    from edgeq.integer.body import Body

DOMAIN = "edgeq"
DOMAIN_VERSION = 1
OPSET = 21
"""Opset of the standard ops, in the graph and in function bodies."""

S8, U8, S16, S32, S64 = (np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.int32, np.int64))
BYTE = (S8, U8)
SMALL = (S8, U8, S16)
ANY = (S8, U8, S16, S32, S64)

ONNX_DTYPES: dict[int, np.dtype[Any]] = {2: U8, 3: S8, 5: S16, 6: S32, 7: S64}
"""ONNX data type number -> NumPy dtype, for the types an integer graph may hold."""
ONNX_CODES = {dtype: code for code, dtype in ONNX_DTYPES.items()}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TensorType:
    """dtype and static shape of a value."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True)
class Input:
    """One input of an op: name, dtypes it may have, rank (None: any), whether it may be missing or must be constant."""

    name: str
    dtypes: tuple[np.dtype[Any], ...] = ANY
    rank: int | None = None
    optional: bool = False
    constant: bool = False


@dataclass(frozen=True)
class Attribute:
    """One attribute. kind: int, ints, string or dtype; without a default a node must have it, unless `optional`."""

    name: str
    kind: str = "int"
    default: Any = None
    optional: bool = False


@dataclass(frozen=True)
class Call:
    """One use of an op: what inference and proofs look at.

    types: per input, None where it is left out. constants: per input its value, None where it isn't known. attrs:
    complete, dtype attributes as NumPy dtypes. outputs: how many outputs the node has.
    """

    op: str
    name: str
    types: tuple[TensorType | None, ...]
    constants: tuple[Array | None, ...]
    attrs: Mapping[str, Any]
    outputs: int = 1

    @property
    def where(self) -> str:
        """For error messages."""
        return f"{self.op} '{self.name}'"

    def type(self, index: int) -> TensorType:
        """Type of an input that is there."""
        found = self.types[index] if index < len(self.types) else None
        if found is None:
            raise ModelError("an input is missing", where=self.where, why=f"input {index} is empty")
        return found

    def constant(self, index: int) -> Array:
        """Value of an input that must be constant."""
        found = self.constants[index] if index < len(self.constants) else None
        if found is None:
            raise ModelError("an input must be constant", where=self.where, why=f"input {index} is computed or missing")
        return found

    def has(self, index: int) -> bool:
        """Whether the input is there."""
        return index < len(self.types) and self.types[index] is not None

    def fail(self, why: str, hint: str | None = None) -> ModelError:
        """A ModelError about this node, to be raised."""
        return ModelError("the node is not valid in an integer graph", where=self.where, why=why, hint=hint)


@dataclass(frozen=True)
class Op:
    """One op of the integer graph.

    infer: Call -> output types, raising ModelError on what doesn't fit together.
    reference: (*inputs, **attrs) -> array or tuple of arrays; exact; missing inputs are None.
    interval: (Call, input intervals) -> output intervals; raises CompileError where an intermediate could overflow.
    body: writes the ONNX function (None for standard ops).
    variadic: the last input may repeat.
    """

    name: str
    inputs: tuple[Input, ...]
    attributes: tuple[Attribute, ...]
    infer: Callable[[Call], list[TensorType]]
    reference: Callable[..., Array | tuple[Array, ...]]
    interval: Callable[[Call, Sequence[Interval]], list[Interval]]
    body: Callable[..., str] | None = None
    domain: str = DOMAIN
    variadic: bool = False
    derive: Callable[[Sequence[TensorType | None], dict[str, Any]], None] = field(default=lambda types, attrs: None)

    def input(self, index: int) -> Input | None:
        """Schema of input `index`, None where the op takes no such input."""
        if index < len(self.inputs):
            return self.inputs[index]
        return self.inputs[-1] if self.variadic else None

    def write_body(self, body: Body) -> str:
        """Run the body writer on the op's input names; returns the name of the output."""
        if self.body is None:
            raise UnsupportedOpError("a standard op has no function body", where=self.name)
        return self.body(body, *(i.name for i in self.inputs))


_TABLE: dict[tuple[str, str], Op] = {}


def register(op: Op) -> Op:
    """Enter an op into the table; a second one of the same name is a programming error."""
    key = (op.domain, op.name)
    if key in _TABLE:
        raise ValueError(f"op {key} registered twice")
    _TABLE[key] = op
    return op


def all_ops() -> tuple[Op, ...]:
    """Every op, edgeq and standard."""
    from edgeq.integer import ops  # noqa: F401  (registers them)

    return tuple(_TABLE.values())


def find(name: str, domain: str | None = None) -> Op | None:
    """The op of that name; without a domain, `edgeq` comes before the standard one (Add, Max, Mul … are edgeq's)."""
    all_ops()
    domains = (DOMAIN, "") if domain is None else (domain,)
    return next((_TABLE[d, name] for d in domains if (d, name) in _TABLE), None)


def lookup(name: str, domain: str | None = None, where: str | None = None) -> Op:
    """Like `find`, but raises UnsupportedOpError."""
    op = find(name, domain)
    if op is None:
        raise UnsupportedOpError(
            f"{domain or 'ONNX'} op {name} has no integer form"
            if domain != DOMAIN
            else f"the edgeq domain has no op {name}",
            where=where,
            hint="docs/integer-ops.md and docs/architecture.md list the ops of an integer graph",
        )
    return op


def complete_attributes(
    op: Op, given: Mapping[str, Any], types: Sequence[TensorType | None], where: str
) -> dict[str, Any]:
    """Given attributes + derived and default ones, in the schema's order and types.

    Raises:
        ModelError: an attribute is unknown, missing or of the wrong kind.
    """
    known = {a.name for a in op.attributes}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ModelError(
            f"{op.name} has no attribute {', '.join(unknown)}",
            where=where,
            why=f"it has {', '.join(sorted(known)) or 'none'}",
        )
    derived = dict(given)
    for a in op.attributes:
        if a.kind == "dtype" and a.name in given:
            derived[a.name] = _convert(a, given[a.name], where)
    op.derive(types, derived)
    full: dict[str, Any] = {}
    for a in op.attributes:
        value = derived.get(a.name, a.default)
        if value is None:
            if a.optional:
                continue
            raise ModelError(f"{op.name} needs the attribute {a.name}", where=where)
        full[a.name] = _convert(a, value, where)
    return full


def _convert(attribute: Attribute, value: Any, where: str) -> Any:
    try:
        if attribute.kind == "int":
            return _integer(value)
        if attribute.kind == "ints":
            return tuple(_integer(v) for v in value)
        if attribute.kind == "dtype":
            return ONNX_DTYPES[int(value)] if isinstance(value, (int, np.integer)) else _dtype(value)
        if isinstance(value, bytes):
            return value.decode()
        if not isinstance(value, str):
            raise TypeError(f"{value!r} is no string")
        return value
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"attribute {attribute.name} is not a valid {attribute.kind}", where=where, why=f"{value!r}: {error}"
        ) from error


def _integer(value: Any) -> int:
    number = int(value)
    if number != value:
        raise ValueError("not a whole number")
    return number


def _dtype(value: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(value.numpy() if hasattr(value, "numpy") else value)
    if dtype not in ONNX_CODES:
        raise ValueError(f"{dtype} is no type of an integer graph")
    return dtype


def check_inputs(op: Op, call: Call) -> None:
    """Number, dtypes, ranks and constness of a call's inputs against the schema.

    Raises:
        ModelError: naming the node and the input.
    """
    if len(call.types) > len(op.inputs) and not op.variadic:
        raise call.fail(f"{len(call.types)} inputs, at most {len(op.inputs)} are taken")
    for index in range(max(len(call.types), len(op.inputs))):
        spec = op.input(index)
        assert spec is not None
        if not call.has(index):
            if not spec.optional:
                raise call.fail(f"input {spec.name} is missing")
            continue
        found = call.type(index)
        if found.dtype not in spec.dtypes:
            raise call.fail(f"input {spec.name} is {found}, it must be {' or '.join(d.name for d in spec.dtypes)}")
        if spec.rank is not None and len(found.shape) != spec.rank:
            raise call.fail(f"input {spec.name} is {found}, its rank must be {spec.rank}")
        if spec.constant and call.constants[index] is None:
            raise call.fail(f"input {spec.name} must be constant")


def output_types(op: Op, call: Call) -> list[TensorType]:
    """Check the inputs, then infer the outputs' types."""
    check_inputs(op, call)
    return op.infer(call)


def clamp_attributes(zero_point: bool = True) -> tuple[Attribute, ...]:
    """zero_point, low, high, to: how an op with a clamped output ends. low and high default to the range of `to`."""
    first = (Attribute("zero_point", default=0),) if zero_point else ()
    return (*first, Attribute("low"), Attribute("high"), Attribute("to", "dtype"))


def derive_clamp(types: Sequence[TensorType | None], attrs: dict[str, Any]) -> None:
    """Fill in low and high from the range of `to` (a NumPy dtype here)."""
    if "to" in attrs:
        low, high = dtype_range(attrs["to"])
        attrs.setdefault("low", low)
        attrs.setdefault("high", high)


def check_clamp(call: Call, dtypes: tuple[np.dtype[Any], ...] = SMALL) -> np.dtype[Any]:
    """Check zero_point, low, high against `to`; returns the output dtype."""
    dtype: np.dtype[Any] = call.attrs["to"]
    if dtype not in dtypes:
        raise call.fail(f"to is {dtype.name}, it must be {' or '.join(d.name for d in dtypes)}")
    least, most = dtype_range(dtype)
    low, high = call.attrs["low"], call.attrs["high"]
    if not least <= low <= high <= most:
        raise call.fail(f"low {low} and high {high} must be ordered and inside [{least}, {most}] of {dtype.name}")
    check_zero_point(call, "zero_point", dtype)
    return dtype


def check_zero_point(call: Call, attribute: str, dtype: np.dtype[Any]) -> None:
    """A zero point must be a value of its tensor's dtype, and 0 for s16 and s32."""
    value = call.attrs[attribute]
    least, most = (0, 0) if dtype in (S16, S32) else dtype_range(dtype)
    if not least <= value <= most:
        raise call.fail(f"{attribute} {value} is outside [{least}, {most}] for {dtype.name}")


def check_range(call: Call, attribute: str, low: int, high: int) -> int:
    """An int attribute inside [low, high]."""
    value: int = call.attrs[attribute]
    if not low <= value <= high:
        raise call.fail(f"{attribute} {value} is outside [{low}, {high}]")
    return value


def broadcast(call: Call, *indices: int) -> tuple[int, ...]:
    """NumPy broadcast of the shapes of some inputs."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*(call.type(i).shape for i in indices)))
    except ValueError as error:
        raise call.fail(
            f"shapes {', '.join(str(list(call.type(i).shape)) for i in indices)} don't broadcast"
        ) from error
