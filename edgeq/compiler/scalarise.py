"""Vectors taken apart: lowered TIR with vector types becomes TIR with scalars only, which any C compiler knows.

Kernels are written in registers of several lanes, also for processors without vectors: LLVM takes those apart. TVM's C
generator doesn't. Here every vector expression becomes the list of its lanes. Lanes that several expressions read get a
name, so that the text grows with the work and not with the depth of the expressions. What C leaves undefined doesn't
happen: arithmetic of 8 and 16 bits is done in 32 bits and cut, differences and products of data and shifts to the left
are those of unsigned numbers.

Imports tvm: only `codegen` may import this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.target.codegen import llvm_get_intrinsic_name
from tvm.tirx import op as _op

from edgeq.compiler.unused import parts_of
from edgeq.errors import CompileError

PRODUCT_BITS = 32  # of the factors: two such products may add up to 2^31
LOOP_LANES = 4  # stores of this many equal or copied lanes become a loop
_ARITHMETIC = {"Add": tirx.Add, "Sub": tirx.Sub, "Mul": tirx.Mul}
_BINARY = {name: getattr(tirx, name) for name in ("Div", "Mod", "EQ", "NE", "LT", "LE", "GT", "GE", "And", "Or")}
_BINARY |= {"BitwiseAnd": _op.bitwise_and, "BitwiseOr": _op.bitwise_or, "BitwiseXor": _op.bitwise_xor}
_TWO_SIDED = {"llvm.smax": "max", "llvm.smin": "min", "llvm.umax": "max", "llvm.umin": "min"}
_TWO_SIDED |= {"llvm.sadd.sat": "add_sat", "llvm.uadd.sat": "add_sat"}

Expr = Any


def dtype_of(value: Expr) -> str:
    """TVM's name of the type, as in `int32x4`."""
    return str(value.ty.dtype)


def lanes_of(dtype: str) -> int:
    """Lanes of a type's name."""
    return int(dtype.partition("x")[2] or 1)


def bits_of(dtype: str) -> int:
    """Bits of one lane."""
    return int(re.sub(r"\D", "", dtype.partition("x")[0]) or 1)


def scalar(dtype: str) -> str:
    """The type of one lane."""
    return dtype.partition("x")[0]


class Scalariser:
    """Takes one function apart."""

    def __init__(self) -> None:
        self._lanes: dict[Any, list[Expr]] = {}  # vector name -> names of its lanes
        self._buffers: dict[Any, tuple[Any, int]] = {}  # local array -> array of scalars, lanes of an element
        self._memory: dict[Any, Any] = {}  # buffer -> pointer that it looks at
        self._data: set[Any] = set()  # names of what was read from memory, or made of it
        self._narrow: dict[Any, int] = {}  # names of numbers that fit 8 or 16 bits, and which
        self._pending: list[Any] = []  # what has to stand in front of the statement at hand
        self._count = 0

    # --- statements ---------------------------------------------------------------------------------------------------

    def body(self, stmt: Any) -> Any:
        """A statement without vectors.

        Raises:
            CompileError: something that has no scalar form here; names it.
        """
        parts = self._statement(stmt)
        return parts[0] if len(parts) == 1 else tirx.SeqStmt(parts)

    def _statement(self, stmt: Any) -> list[Any]:
        kind = type(stmt).__name__
        handler: Callable[[Any], list[Any]] | None = getattr(self, f"_stmt_{kind}", None)
        if handler is None:
            raise CompileError(f"C source has no form for the statement {kind}", hint="this is a defect of edgeq")
        outer, self._pending = self._pending, []
        made = handler(stmt)
        before, self._pending = self._pending, outer
        return [*before, *made]

    def _stmt_SeqStmt(self, stmt: Any) -> list[Any]:
        return [part for each in stmt.seq for part in self._statement(each)]

    def _stmt_Evaluate(self, stmt: Any) -> list[Any]:
        return [] if isinstance(stmt.value, tirx.IntImm) else [tirx.Evaluate(self._one(stmt.value))]

    def _stmt_For(self, stmt: Any) -> list[Any]:
        first, extent = self._one(stmt.min), self._one(stmt.extent)
        return [tirx.For(stmt.loop_var, first, extent, tirx.ForKind.SERIAL, self.body(stmt.body))]

    def _stmt_While(self, stmt: Any) -> list[Any]:
        condition = self._one(stmt.condition)
        if self._pending:  # it would be computed once, in front of the loop
            raise CompileError("C source has no form for a loop whose condition holds vectors")
        return [tirx.While(condition, self.body(stmt.body))]

    def _stmt_IfThenElse(self, stmt: Any) -> list[Any]:
        other = None if stmt.else_case is None else self.body(stmt.else_case)
        return [tirx.IfThenElse(self._one(stmt.condition), self.body(stmt.then_case), other)]

    def _stmt_AttrStmt(self, stmt: Any) -> list[Any]:
        return self._statement(stmt.body)

    def _stmt_DeclBuffer(self, stmt: Any) -> list[Any]:
        self._memory[stmt.buffer] = stmt.data
        return [stmt]

    def _stmt_AllocBuffer(self, stmt: Any) -> list[Any]:
        old = stmt.buffer
        lanes = lanes_of(str(old.dtype))
        count = int(old.shape[0]) * lanes
        made = tirx.decl_buffer((count,), scalar(str(old.dtype)), name=f"local{len(self._buffers)}")
        self._buffers[old] = (made, lanes)
        return [tirx.AllocBuffer(made)]

    def _stmt_Bind(self, stmt: Any) -> list[Any]:
        values = self.lanes(stmt.value)
        if len(values) == 1:
            self._note(stmt.var, values[0])
            return [tirx.Bind(stmt.var, values[0])]
        self._lanes[stmt.var] = [self._named(value) for value in values]
        return []

    def _stmt_BufferStore(self, stmt: Any) -> list[Any]:
        buffer, places = self._places(stmt.buffer, stmt.indices)
        loop = self._loop(stmt, buffer, places)
        if loop is not None:
            return loop
        values = self.lanes(stmt.value)
        if len(values) > 1:  # all lanes are read before the first is written
            values = [value if _is_simple(value) else self._named(value) for value in values]
        return [tirx.BufferStore(buffer, value, [place]) for value, place in zip(values, places, strict=True)]

    def _loop(self, stmt: Any, buffer: Any, places: list[Expr]) -> list[Any] | None:
        """Fills and copies of many neighbours as a loop; None: it is neither."""
        target, value = stmt.indices[0], stmt.value
        if len(places) < LOOP_LANES or type(target).__name__ != "Ramp" or stmt.buffer in self._buffers:
            return None
        lane = tirx.Var(self._name(), "int32")
        base, stride = self._one(target.base), self._one(target.stride)
        if type(value).__name__ == "Broadcast":
            (moved,) = set(self._expr_Broadcast(value))
        elif type(value).__name__ == "TensorLoad" and self._apart(value.source, stmt.buffer):
            source = value.indices[0]
            if type(source).__name__ != "Ramp":
                return None
            moved = tirx.BufferLoad(value.source, [self._one(source.base) + lane * self._one(source.stride)])
        else:
            return None
        store = tirx.BufferStore(buffer, moved, [base + lane * stride])
        return [tirx.For(lane, tirx.const(0, "int32"), tirx.const(len(places), "int32"), tirx.ForKind.SERIAL, store)]

    def _apart(self, source: Any, target: Any) -> bool:
        """Whether two buffers are different parameters, which never overlap: else all is read before it is written."""
        first, second = self._memory.get(source), self._memory.get(target)
        return first is not None and second is not None and not first.same_as(second)

    # --- expressions --------------------------------------------------------------------------------------------------

    def _one(self, value: Expr) -> Expr:
        (only,) = self.lanes(value)
        return only

    def lanes(self, value: Expr) -> list[Expr]:
        """The lanes of an expression, without vectors inside."""
        kind = type(value).__name__
        if kind in ("IntImm", "StringImm"):
            return [value]
        if kind == "Var":
            return self._lanes.get(value, [value])
        if kind in _ARITHMETIC:
            return self._pairs(value.a, value.b, lambda a, b: self._arithmetic(kind, a, b))
        if kind in ("Min", "Max"):
            return self._pairs(value.a, value.b, lambda a, b: self._helper(kind.lower(), a, b))
        if kind in _BINARY:
            return self._pairs(value.a, value.b, _BINARY[kind])
        handler: Callable[[Any], list[Expr]] | None = getattr(self, f"_expr_{kind}", None)
        if handler is None:
            raise CompileError(f"C source has no form for the expression {kind}", hint="this is a defect of edgeq")
        return handler(value)

    def _pairs(self, a: Expr, b: Expr, combine: Callable[[Expr, Expr], Expr]) -> list[Expr]:
        return [combine(x, y) for x, y in zip(self.lanes(a), self.lanes(b), strict=True)]

    def _arithmetic(self, kind: str, a: Expr, b: Expr) -> Expr:
        """a + b and the like. Below 32 bits computed in 32 and cut.

        Differences and products of data wrap, as lanes do: a product may pass 32 bits where the difference fits again.
        So do sums of two products of 16 bits, 2^30 + 2^30. Other sums never overflow: accumulators are proven. They are
        plain because GCC 12.2 turns chains of unsigned sums, cast to signed, into wrong code. So are places, which are
        computed from counters and constants.
        """
        dtype, combine = dtype_of(a), _ARITHMETIC[kind]
        if bits_of(dtype) < 32:
            wide = "uint32" if dtype.startswith("u") else "int32"
            return tirx.Cast(dtype, combine(tirx.Cast(wide, a), tirx.Cast(wide, b)))
        if dtype == "int32" and self._may_wrap(kind, a, b) and (self._is_data(a) or self._is_data(b)):
            return self._helper(kind.lower(), a, b)
        return combine(a, b)

    def _may_wrap(self, kind: str, a: Expr, b: Expr) -> bool:
        if kind == "Add":
            return self._product_bits(a) == self._product_bits(b) == PRODUCT_BITS
        return kind == "Sub" or not (self._narrow_bits(a) and self._narrow_bits(b))

    def _product_bits(self, value: Expr) -> int:
        """Bits of both factors together; 0: it is no product of narrow numbers."""
        if type(value).__name__ != "Mul":
            return 0
        bits = self._narrow_bits(value.a), self._narrow_bits(value.b)
        return sum(bits) if all(bits) else 0

    def _is_data(self, value: Expr) -> bool:
        """Whether memory was read for it."""
        kind = type(value).__name__
        if kind in ("IntImm", "StringImm"):
            return False
        if kind == "Var":
            return value in self._data
        return kind == "TensorLoad" or any(self._is_data(part) for part in parts_of(value))

    def _narrow_bits(self, value: Expr) -> int:
        """8 or 16: it surely fits so many bits with its sign, so that products of two fit 32; 0: it needn't."""
        kind = type(value).__name__
        if kind == "IntImm":
            return next((bits for bits in (8, 16) if -(1 << bits - 1) <= int(value) < 1 << bits - 1), 0)
        if kind == "Var":
            return self._narrow.get(value, 0)
        source = dtype_of(value.value) if kind == "Cast" else "int64"
        return {"int8": 8, "uint8": 16, "int16": 16}.get(source, 0)

    def _expr_LShift(self, value: Any) -> list[Expr]:
        return self._pairs(value.a, value.b, _shifted_left)

    def _expr_RShift(self, value: Any) -> list[Expr]:
        return self._pairs(value.a, value.b, _op.shift_right)

    def _expr_Not(self, value: Any) -> list[Expr]:
        return [tirx.Not(lane) for lane in self.lanes(value.a)]

    def _expr_Cast(self, value: Any) -> list[Expr]:
        return [tirx.Cast(scalar(dtype_of(value)), lane) for lane in self.lanes(value.value)]

    def _expr_Select(self, value: Any) -> list[Expr]:
        condition, yes, no = (self.lanes(part) for part in (value.condition, value.true_value, value.false_value))
        condition = condition * len(yes) if len(condition) == 1 else condition
        return [_chosen(*row) for row in zip(condition, yes, no, strict=True)]

    def _expr_Broadcast(self, value: Any) -> list[Expr]:
        only = self._one(value.value)
        return [only if _is_simple(only) else self._named(only)] * lanes_of(dtype_of(value))

    def _expr_Ramp(self, value: Any) -> list[Expr]:
        base, stride = self._one(value.base), self._one(value.stride)
        return [base + stride * lane for lane in range(lanes_of(dtype_of(value)))]

    def _expr_TensorLoad(self, value: Any) -> list[Expr]:
        buffer, places = self._places(value.source, value.indices)
        return [tirx.BufferLoad(buffer, [place]) for place in places]

    def _expr_Shuffle(self, value: Any) -> list[Expr]:
        picked = [int(index) for index in value.indices]
        lanes = [lane for vector in value.vectors for lane in self.lanes(vector)]
        shared = {index for index in picked if picked.count(index) > 1}
        return [self._named(lanes[i]) if i in shared and not _is_simple(lanes[i]) else lanes[i] for i in picked]

    def _expr_Call(self, value: Any) -> list[Expr]:
        name = str(value.op.name)
        if name == "tirx.reinterpret":
            return self._reinterpret(value)
        if name == "tirx.call_llvm_pure_intrin":
            return self._intrinsic(value)
        if name == "prim.clz":
            return [self._helper("clz", self._one(value.args[0]), result=dtype_of(value))]
        if name == "prim.if_then_else":
            return [_op.if_then_else(*(self._one(part) for part in value.args))]
        raise CompileError(f"C source has no form for {name}", hint="kernels of a C target are plain arithmetic")

    def _intrinsic(self, value: Any) -> list[Expr]:
        name = llvm_get_intrinsic_name(int(value.args[0]))
        arguments = [self.lanes(argument) for argument in value.args[1:]]
        if name in _TWO_SIDED:
            return [self._helper(_TWO_SIDED[name], a, b) for a, b in zip(*arguments, strict=True)]
        if name == "llvm.vector.reduce.add":
            total = arguments[0][0]
            for lane in arguments[0][1:]:
                total = self._arithmetic("Add", total, lane)
            return [total]
        raise CompileError(
            f"C source has no form for {name}",
            why="it is an instruction of one processor",
            hint='a target with kind = "c" takes products of plain arithmetic: see targets/c99',
        )

    def _reinterpret(self, value: Any) -> list[Expr]:
        """The same bits in other lanes; the first lane is the lowest, as in memory of a little-endian machine."""
        wanted, lanes = dtype_of(value), self.lanes(value.args[0])
        given = dtype_of(value.args[0])
        to, now = bits_of(wanted), bits_of(given)
        if to > now:
            ratio = to // now
            groups = [lanes[k : k + ratio] for k in range(0, len(lanes), ratio)]
            return [tirx.Cast(scalar(wanted), _joined(group, now, to)) for group in groups]
        if to < now:
            named = [lane if _is_simple(lane) else self._named(lane) for lane in lanes]
            parts = [
                _op.shift_right(tirx.Cast(f"uint{now}", lane), tirx.const(k, f"uint{now}"))
                for lane in named
                for k in range(0, now, to)
            ]
            return [tirx.Cast(scalar(wanted), part) for part in parts]
        return [tirx.Cast(scalar(wanted), lane) for lane in lanes]

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _places(self, buffer: Any, indices: Any) -> tuple[Any, list[Expr]]:
        """The buffer to use and the index of every lane."""
        places = self.lanes(indices[0])
        if buffer not in self._buffers:
            return buffer, places
        made, lanes = self._buffers[buffer]
        return made, [place * lanes + lane for place in places for lane in range(lanes)]

    def _helper(self, name: str, *arguments: Expr, result: str | None = None) -> Expr:
        """A call of a function of the prelude, as `edgeq_min_int32_t(a, b)`."""
        dtype = dtype_of(arguments[0])
        function = f"edgeq_{name}_{dtype}_t"
        return _op.call_pure_extern(result or dtype, function, *arguments)

    def _note(self, variable: Any, value: Expr) -> None:
        if self._is_data(value):
            self._data.add(variable)
        if self._narrow_bits(value):
            self._narrow[variable] = self._narrow_bits(value)

    def _name(self) -> str:
        self._count += 1
        return f"s{self._count}"

    def _named(self, value: Expr) -> Expr:
        """A variable that holds the value from here on."""
        variable = tirx.Var(self._name(), dtype_of(value))
        self._note(variable, value)
        self._pending.append(tirx.Bind(variable, value))
        return variable


def _chosen(condition: Expr, yes: Expr, no: Expr) -> Expr:
    if type(condition).__name__ == "IntImm":
        return yes if int(condition) else no
    return tirx.Select(condition, yes, no)


def _is_simple(value: Expr) -> bool:
    return type(value).__name__ in ("Var", "IntImm")


def _shifted_left(value: Expr, count: Expr) -> Expr:
    """Of the unsigned number: C leaves shifts of negative ones undefined."""
    dtype = dtype_of(value)
    wide = f"uint{max(bits_of(dtype), 32)}"
    return tirx.Cast(dtype, _op.shift_left(tirx.Cast(wide, value), tirx.Cast(wide, count)))


def _joined(parts: list[Expr], bits: int, to: int) -> Expr:
    """Lanes side by side in one unsigned number of `to` bits, the first one lowest."""
    wide = f"uint{max(to, 32)}"
    total = None
    for k, part in enumerate(parts):
        placed = tirx.Cast(wide, tirx.Cast(f"uint{bits}", part))
        placed = _op.shift_left(placed, tirx.const(bits * k, wide)) if k else placed
        total = placed if total is None else _op.bitwise_or(total, placed)
    return total
