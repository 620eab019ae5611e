"""What a mask says: which positions count, as a tensor of zeros and ones, whatever it was computed with.

A mask is followed back to where it stops being an integer or a truth value. On the way there are elementwise ops, which
are tried with 0 and 1 in the place of that leaf, and data movement, which is repeated for zeros and ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeq.frontend.arrays import Array
from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import constant, initializer, is_op, make_node, static_shape
from edgeq.frontend.elementwise import EVALUATORS

_MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Slice", "Identity", "Flatten")


@dataclass(frozen=True)
class Keep:
    """Which positions count: 1 (or 0 where `inverted`) in a float value, or a constant.

    Attributes:
        value: float value of zeros and ones, or None.
        inverted: zeros count, not ones.
        array: the constant where `value` is None: float32 zeros and ones.
    """

    value: ir.Value | None
    inverted: bool = False
    array: Array | None = None


@dataclass(frozen=True)
class _Probe:
    """A function of one leaf, by what it gives for 0 and for 1; without a leaf, a constant."""

    leaf: ir.Value | None
    zero: float
    one: float


class KeepFinder:
    """Finds and writes keep tensors in front of one node.

    Args:
        place: the Softmax; new nodes go in front of it.
    """

    #: Addends from here down take a position out of the softmax.
    MASKED: ClassVar[float] = -1000.0

    def __init__(self, place: Chain) -> None:
        self._place = place
        self._moved: dict[tuple[ir.Node, ir.Value], ir.Value] = {}
        self._cast: dict[ir.Value, ir.Value] = {}
        self._number = 0

    # Reading ---------------------------------------------------------------------------------------------------------

    def of_addend(self, value: ir.Value) -> Keep | None:
        """Of a mask that is added to logits: 0 where a position counts, very negative where not."""
        array = constant(value)
        if array is not None:
            plain = array.dtype.kind == "f" and bool(((array == 0) | (array <= self.MASKED)).all())
            return Keep(None, array=(array == 0).astype(np.float32)) if plain and array.ndim else None
        maker = value.producer()
        if is_op(maker, "Add"):
            assert maker is not None
            sides = [None if side is None else self.of_addend(side) for side in maker.inputs]
            if sides[0] is not None and sides[1] is not None:
                return self.both(sides[0], sides[1])
        if is_op(maker, "Where"):
            assert maker is not None
            found = self._of_choice(maker)
            if found is not None:
                return found
        return self._of_probe(value, counts=0.0)

    def of_condition(self, value: ir.Value) -> Keep | None:
        """Of a truth value that holds where a position counts."""
        array = constant(value)
        if array is not None:
            return Keep(None, array=array.astype(np.float32))
        found = self._of_probe(value, counts=1.0)
        maker = value.producer()
        return found if found is not None or maker is None else self._of_logic(maker)

    def _of_logic(self, node: ir.Node) -> Keep | None:
        """Of a combination of truth values of different origin."""
        sides = [None if side is None else self.of_condition(side) for side in node.inputs[:2]]
        first = sides[0] if sides else None
        if first is None:
            return None
        if is_op(node, "Not"):
            return self.inverse(first)
        if is_op(node, *_MOVES) and first.value is not None:
            return Keep(self._move(node, first.value), first.inverted)
        if not is_op(node, "And", "Or") or len(sides) < 2 or sides[1] is None:
            return None
        if is_op(node, "And"):
            return self.both(first, sides[1])
        return self.inverse(self.both(self.inverse(first), self.inverse(sides[1])))

    def _of_choice(self, where: ir.Node) -> Keep | None:
        """Where(c, 0, −∞) and Where(c, −∞, 0)."""
        condition, yes, no = where.inputs
        arrays = constant(yes), constant(no)
        if condition is None or arrays[0] is None or arrays[1] is None or arrays[0].size != 1 or arrays[1].size != 1:
            return None
        first, second = (float(array.reshape(())) for array in arrays if array is not None)
        keep = self.of_condition(condition)
        if keep is None:
            return None
        if first == 0.0 and second <= self.MASKED:
            return keep
        return self.inverse(keep) if first <= self.MASKED and second == 0.0 else None

    def _of_probe(self, value: ir.Value, *, counts: float) -> Keep | None:
        probe = self._probe(value)
        if probe is None or probe.leaf is None:
            return None
        if counts:
            states = [None if v not in (0.0, 1.0) else v == 1.0 for v in (probe.zero, probe.one)]
        else:
            states = [True if v == 0 else False if v <= self.MASKED else None for v in (probe.zero, probe.one)]
        if None in states or states[0] == states[1]:
            return None
        return Keep(probe.leaf, inverted=bool(states[0]))

    def _probe(self, value: ir.Value) -> _Probe | None:
        array, maker = constant(value), value.producer()
        if array is not None:
            number = float(array.reshape(-1)[0]) if array.size else 0.0
            return _Probe(None, number, number) if array.size and (array == array.reshape(-1)[0]).all() else None
        if maker is None or not (is_op(maker, "Cast", *_MOVES) or (not maker.domain and maker.op_type in EVALUATORS)):
            integer = value.dtype is not None and not value.dtype.is_floating_point()
            return _Probe(self._as_float(value), 0.0, 1.0) if integer else None
        return self._through(maker, value) if is_op(maker, "Cast", *_MOVES) else self._elementwise(maker)

    def _through(self, node: ir.Node, value: ir.Value) -> _Probe | None:
        """Through a cast or data movement."""
        inner = None if node.inputs[0] is None else self._probe(node.inputs[0])
        if inner is None:
            return None
        if is_op(node, "Cast"):
            boolean = value.dtype == ir.DataType.BOOL
            return _Probe(inner.leaf, float(inner.zero != 0), float(inner.one != 0)) if boolean else inner
        return inner if inner.leaf is None else _Probe(self._move(node, inner.leaf), inner.zero, inner.one)

    def _elementwise(self, node: ir.Node) -> _Probe | None:
        probes = [None if value is None else self._probe(value) for value in node.inputs]
        if any(probe is None and value is not None for probe, value in zip(probes, node.inputs, strict=True)):
            return None
        leaves = {probe.leaf for probe in probes if probe is not None and probe.leaf is not None}
        if len(leaves) != 1:
            return None
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        evaluate = EVALUATORS[node.op_type]
        results = []
        for state in ("zero", "one"):
            operands = [None if p is None else _operand(node, k, getattr(p, state)) for k, p in enumerate(probes)]
            with np.errstate(all="ignore"):
                results.append(float(evaluate(operands, attributes)))
        return _Probe(next(iter(leaves)), *results)

    # Writing ---------------------------------------------------------------------------------------------------------

    def inverse(self, keep: Keep) -> Keep:
        """What doesn't count."""
        if keep.array is not None:
            return Keep(None, array=(1 - keep.array).astype(np.float32))
        return Keep(keep.value, not keep.inverted)

    def both(self, a: Keep, b: Keep) -> Keep:
        """What counts in both: the product."""
        if a.array is not None and b.array is not None:
            return Keep(None, array=(a.array * b.array).astype(np.float32))
        if a.array is not None:
            a, b = b, a
        left = self._place.at(self.value(a))
        right = b.array if b.array is not None else self.value(b)
        return Keep(left.op("Mul", self._suffix(), right).value)

    def value(self, keep: Keep) -> ir.Value:
        """A float value of zeros and ones."""
        if keep.value is None:
            assert keep.array is not None
            return initializer(self._place.graph, f"{self._place.node.name}.keep", keep.array)
        if not keep.inverted:
            return keep.value
        one = np.array(1.0, np.float32)
        minus = self._place.at(keep.value).op("Mul", self._suffix(), np.array(-1.0, np.float32))
        return minus.op("Add", ".not", one).value

    def _as_float(self, value: ir.Value) -> ir.Value:
        """Cast of an integer or truth value to float, in front of its first use here."""
        if value not in self._cast:
            name = f"{self._place.node.name}{self._suffix()}"
            attributes: dict[str, object] = {"to": int(ir.DataType.FLOAT)}
            shape = static_shape(value)
            cast = make_node("Cast", [value], name=name, shape=shape, dtype=ir.DataType.FLOAT, attributes=attributes)
            self._place.graph.insert_before(self._place.node, [cast])
            self._cast[value] = cast.outputs[0]
        return self._cast[value]

    def _move(self, mover: ir.Node, value: ir.Value) -> ir.Value:
        """The same data movement on zeros and ones."""
        key = (mover, value)
        if key not in self._moved:
            name = f"{self._place.node.name}{self._suffix()}"
            attributes = {k: attribute.value for k, attribute in mover.attributes.items()}
            shape = static_shape(mover.outputs[0])
            node = make_node(
                mover.op_type, [value, *mover.inputs[1:]], name=name, shape=shape, dtype=value.dtype,
                attributes=attributes,
            )  # fmt: skip
            self._place.graph.insert_before(self._place.node, [node])
            self._moved[key] = node.outputs[0]
        return self._moved[key]

    def _suffix(self) -> str:
        self._number += 1
        return f".keep{self._number}"


def _operand(node: ir.Node, index: int, number: float) -> Array:
    """A probe's value in the type the op expects of that operand."""
    value = node.inputs[index]
    boolean = value is not None and value.dtype == ir.DataType.BOOL
    return np.array(bool(number)) if boolean else np.array(number)
