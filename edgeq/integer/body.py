"""Writes an op's ONNX function: a small assembler over NodeProtos.

A body function receives a `Body` and the names of its inputs and returns the name of its output:

    def body(b: Body, x: str, w: str) -> str:
        return b("Add", b("Cast", x, to=INT64), b.attribute("zero_point"))

All arithmetic runs in int64, where every op's intermediates fit by proof, on standard ops that ONNX Runtime and the
ReferenceEvaluator compute exactly on any CPU. Only the S8S8 forms of ConvInteger and MatMulInteger are used: with U8S8
operands ONNX Runtime saturates on CPUs without VNNI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, FunctionProto, NodeProto, helper

from edgeq.integer.registry import DOMAIN, OPSET

if TYPE_CHECKING:
    from edgeq.integer.registry import Op

UINT8, INT8, INT16, INT32, INT64 = 2, 3, 5, 6, 7
"""ONNX data types."""
STRING = AttributeProto.STRING


@dataclass(frozen=True)
class Ref:
    """An attribute of the inner node that takes the value of an attribute of the function."""

    name: str
    type: int = AttributeProto.INT


def ints(name: str) -> Ref:
    """Reference to an attribute that is a list of ints."""
    return Ref(name, AttributeProto.INTS)


class Body:
    """Collects the nodes of one function."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._known: dict[str, str] = {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        return self.many(op, 1, *inputs, **attributes)[0]

    def many(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        names = [f"t{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        plain = {k: v for k, v in attributes.items() if not isinstance(v, Ref)}
        node = helper.make_node(op, inputs, names, **plain)
        for key, value in attributes.items():
            if isinstance(value, Ref):
                node.attribute.append(AttributeProto(name=key, ref_attr_name=value.name, type=value.type))
        self.nodes.append(node)
        return names

    def _once(self, key: str, **attributes: Any) -> str:
        if key not in self._known:
            self._known[key] = self("Constant", **attributes)
        return self._known[key]

    def constant(self, value: int) -> str:
        """int64 scalar."""
        return self._once(str(value), value_int=value)

    def vector(self, *values: int) -> str:
        """int64 vector."""
        return self._once(str(list(values)), value_ints=list(values))

    def attribute(self, name: str) -> str:
        """An int attribute of the function as int64 scalar."""
        return self._once(f"@{name}", value_int=Ref(name))

    def attribute_vector(self, name: str) -> str:
        """An ints attribute of the function as int64 vector."""
        return self._once(f"@@{name}", value_ints=ints(name))

    def wide(self, x: str) -> str:
        """Cast to int64."""
        return self("Cast", x, to=INT64)

    def offset(self, x: str, zero_point: str) -> str:
        """int64 x − the zero point in that attribute."""
        return self("Sub", self.wide(x), self.attribute(zero_point))

    def floor_shift(self, x: str, power: str) -> str:
        """x >> s for int64 x, given power = 2^s: (x − mod(x, 2^s)) / 2^s."""
        return self("Div", self("Sub", x, self("Mod", x, power)), power)

    def power(self, shift: str) -> str:
        """2^shift, int64 (62 at most)."""
        return self("Pow", self.constant(2), shift)

    def round_shift(self, x: str, shift: str) -> str:
        """(x + (2^shift >> 1)) >> shift in int64."""
        power = self.power(shift)
        return self.floor_shift(self("Add", x, self("Div", power, self.constant(2))), power)

    def least(self, x: str, y: str) -> str:
        """The smaller of two int64 values of any size.

        ONNX Runtime's Min, Max and Clip compare the low words below equal high words as signed numbers: wrong beyond 32
        bits. Its comparisons are right.
        """
        return self("Where", self("Less", x, y), x, y)

    def greatest(self, x: str, y: str) -> str:
        """The larger of two int64 values of any size; see `least`."""
        return self("Where", self("Greater", x, y), x, y)

    def clamp(self, x: str) -> str:
        """zero_point, low, high, to of the function applied to int64 x that with the zero point fits 32 bits."""
        moved = self("Add", x, self.attribute("zero_point"))
        return self("Cast", self("Clip", moved, self.attribute("low"), self.attribute("high")), to=Ref("to"))

    def clamp_wide(self, x: str) -> str:
        """As `clamp`, for x of any size."""
        moved = self("Add", x, self.attribute("zero_point"))
        limited = self.least(self.greatest(moved, self.attribute("low")), self.attribute("high"))
        return self("Cast", limited, to=Ref("to"))

    def halves(self, x: str) -> tuple[str, str, str]:
        """int64 x of 16 bits as 256·high + low: (high s8, low − 128 s8, the zero point −128 as s8)."""
        high = self.floor_shift(x, self.constant(256))
        low = self("Sub", x, self("Mul", high, self.constant(256)))
        moved = self("Sub", low, self.constant(128))
        return self.byte(high), self.byte(moved), self.byte(self.constant(-128))

    def byte(self, x: str) -> str:
        """Cast to int8."""
        return self("Cast", x, to=INT8)

    def join_halves(self, high: str, low: str) -> str:
        """256·high + low of two int32 accumulators, as int32 (both products in int64: no wrap on the way)."""
        wide = self("Add", self("Mul", self.wide(high), self.constant(256)), self.wide(low))
        return self("Cast", wide, to=INT32)


@cache
def function(op: Op) -> FunctionProto:
    """The op's ONNX local function. Deterministic: the same op gives the same bytes."""
    body = Body()
    result = op.write_body(body)
    body.nodes.append(helper.make_node("Identity", [result], ["y"]))
    return helper.make_function(
        DOMAIN,
        op.name,
        [i.name for i in op.inputs],
        ["y"],
        body.nodes,
        [helper.make_opsetid("", OPSET)],
        [a.name for a in op.attributes],
    )
