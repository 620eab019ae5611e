"""Makes integer graphs: nodes with inferred types, constants, function bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

import edgeq
from edgeq.errors import ModelError
from edgeq.integer.graph import (
    HIGH,
    IR_VERSION,
    LOW,
    SCALE,
    ZERO_POINT,
    IntegerGraph,
    Quant,
    function_of,
    new_metadata,
    tensor_type,
)
from edgeq.integer.graph import constant_of as _constant_of
from edgeq.integer.registry import (
    DOMAIN,
    DOMAIN_VERSION,
    ONNX_CODES,
    OPSET,
    Call,
    Op,
    complete_attributes,
    lookup,
    output_types,
)

Array = np.ndarray[Any, np.dtype[Any]]
Operand: TypeAlias = "ir.Value | Array | None"


class GraphBuilder:
    """Collects inputs, constants and nodes of one integer graph; `finish` makes the graph.

    Args:
        name: of the ONNX graph.
    """

    def __init__(self, name: str = "integer") -> None:
        self.name = name
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self.initializers: list[ir.Value] = []
        self._names: set[str] = set()

    def unique(self, name: str) -> str:
        """The name itself, or with a number behind it where it is taken. Reserves it."""
        chosen, count = name, 1
        while chosen in self._names:
            chosen, count = f"{name}_{count}", count + 1
        self._names.add(chosen)
        return chosen

    def input(self, name: str, dtype: Any, shape: Sequence[int], quant: Quant | None = None) -> ir.Value:
        """A graph input of an integer dtype and static shape."""
        value = self._value(self.unique(name), np.dtype(dtype), shape)
        self.inputs.append(value)
        set_quant(value, quant)
        return value

    def constant(self, array: Array, name: str = "constant") -> ir.Value:
        """An initializer; its name is made unique."""
        unique = self.unique(name)
        tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=unique)
        value = self._value(unique, tensor.dtype, array.shape)
        value.const_value = tensor
        self.initializers.append(value)
        return value

    def output(self, value: ir.Value, name: str | None = None) -> ir.Value:
        """Make a value a graph output, under another name where one is given (an Identity where that is needed)."""
        if name is not None and name != value.name:
            if value in self.inputs or value in self.outputs or value in self.initializers:
                value = emit(self, "Identity", [value], output=name, quant=get_quant(value))
            else:
                self._names.discard(value.name or "")
                value.name = self.unique(name)
        self.outputs.append(value)
        return value

    def finish(self, calibrated: bool = True) -> IntegerGraph:
        """The graph, with the functions that its nodes use, checked.

        Raises:
            ModelError: it isn't valid, e.g. it has no outputs.
        """
        graph = ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": OPSET, DOMAIN: DOMAIN_VERSION},
            name=self.name,
        )
        used = sorted({node.op_type for node in self.nodes if node.domain == DOMAIN})
        model = ir.Model(
            graph,
            ir_version=IR_VERSION,
            producer_name="edgeq",
            producer_version=edgeq.__version__,
            functions=[function_of(name) for name in used],
        )
        model.metadata_props.update(new_metadata(calibrated))
        result = IntegerGraph(model)
        result.check()
        return result

    def add(self, op: Op, call: Call, inputs: Sequence[ir.Value | None], outputs: Sequence[str]) -> list[ir.Value]:
        """Append a node whose call is complete; returns its outputs, typed."""
        types = output_types(op, call)
        attributes = [_attribute(name, value) for name, value in call.attrs.items()]
        values = [self._value(self.unique(n), t.dtype, t.shape) for n, t in zip(outputs, types, strict=True)]
        self.nodes.append(ir.Node(op.domain, op.name, inputs, attributes, outputs=values, name=call.name))
        return values

    @staticmethod
    def _value(name: str, dtype: Any, shape: Sequence[int]) -> ir.Value:
        kind = dtype if isinstance(dtype, ir.DataType) else ir.DataType(ONNX_CODES[np.dtype(dtype)])
        return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape([int(n) for n in shape]))


def emit(
    builder: GraphBuilder,
    op: str,
    inputs: Sequence[Operand],
    *,
    name: str | None = None,
    output: str | None = None,
    quant: Quant | None = None,
    **attrs: Any,
) -> ir.Value:
    """Append a node with one output.

    Args:
        builder: the graph under construction.
        op: an edgeq op, or a data movement op of ONNX.
        inputs: values; arrays become initializers; None leaves an optional input out.
        name: of the node, made unique; by default from the op.
        output: name of the output value; by default the node's name.
        quant: scale and zero point to note on the output.
        attrs: the op's attributes; `to` as NumPy dtype, name or ONNX number; low and high default to the range of `to`.

    Returns:
        The output, with dtype and shape.

    Raises:
        ModelError: the inputs or attributes are not valid for the op (UnsupportedOpError: there is no such op).
    """
    outputs = None if output is None else [output]
    return emit_all(builder, op, inputs, 1, name=name, outputs=outputs, quant=quant, **attrs)[0]


def emit_all(
    builder: GraphBuilder,
    op: str,
    inputs: Sequence[Operand],
    count: int,
    *,
    name: str | None = None,
    outputs: Sequence[str] | None = None,
    quant: Quant | None = None,
    **attrs: Any,
) -> list[ir.Value]:
    """Append a node with `count` outputs (Split); see `emit`. `quant` goes on all of them."""
    found = lookup(op, where=name)
    node = builder.unique(f"node:{name or op}").removeprefix("node:")
    values = [_operand(builder, found, node, i, given) for i, given in enumerate(inputs)]
    while values and values[-1] is None:
        values.pop()
    types = tuple(None if v is None else tensor_type(v) for v in values)
    constants = tuple(None if v is None else _constant_of(v) for v in values)
    full = complete_attributes(found, attrs, types, f"{op} '{node}'")
    names = (
        list(outputs)
        if outputs is not None
        else [f"{node}_out" if count == 1 else f"{node}_out{i}" for i in range(count)]
    )
    made = builder.add(found, Call(op, node, types, constants, full, count), values, names)
    for value in made:
        set_quant(value, quant)
    return made


def _operand(builder: GraphBuilder, op: Op, node: str, index: int, given: Operand) -> ir.Value | None:
    if given is None or isinstance(given, ir.Value):
        return given
    spec = op.input(index)
    if spec is None:
        raise ModelError(f"{op.name} takes at most {len(op.inputs)} inputs", where=node)
    return builder.constant(np.asarray(given), f"{node}_{spec.name}")


def _attribute(name: str, value: Any) -> ir.Attr:
    if isinstance(value, np.dtype):
        return ir.AttrInt64(name, ONNX_CODES[value])
    if isinstance(value, str):
        return ir.AttrString(name, value)
    return ir.AttrInt64(name, value) if isinstance(value, int) else ir.AttrInt64s(name, list(value))


def set_quant(value: ir.Value, quant: Quant | None) -> None:
    """Note scale and zero point on a value; None leaves it as it is."""
    if quant is not None:
        value.metadata_props[SCALE] = repr(float(quant.scale))
        value.metadata_props[ZERO_POINT] = str(quant.zero_point)
        for key, end in ((LOW, quant.low), (HIGH, quant.high)):
            value.metadata_props.pop(key, None)
            if end is not None:
                value.metadata_props[key] = str(end)


def get_quant(value: ir.Value) -> Quant | None:
    """What `set_quant` noted, None where nothing was."""
    props = value.metadata_props
    if SCALE not in props:
        return None
    ends = [int(props[key]) if key in props else None for key in (LOW, HIGH)]
    return Quant(tensor_type(value).dtype, float(props[SCALE]), int(props[ZERO_POINT]), *ends)
