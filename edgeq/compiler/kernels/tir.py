"""Short names for the TIR that kernel generators write: typed pointers, vector loads and stores, intrinsics, loops.

Imports tvm: only `build()` methods may import this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import const as _const
from tvm.tirx import op as _op
from tvm.tirx.script import builder as T

from edgeq.compiler.kernels.base import TVM_DTYPE

Expr = Any  # tvm.ir.PrimExpr; tvm carries no types

__all__ = [
    "Expr",
    "T",
    "alloc",
    "bind",
    "broadcast",
    "cast",
    "const",
    "i32",
    "intrin",
    "kernel",
    "load",
    "reinterpret",
    "shuffle",
    "store",
    "tirx",
    "vload",
    "vstore",
]


def const(value: int, dtype: str = "int32") -> Expr:
    """A scalar constant."""
    return _const(value, dtype)


def i32(value: Expr | int) -> Expr:
    """An index expression from a number or an expression."""
    return _const(value, "int32") if isinstance(value, int) else value


def bind(value: Expr) -> Expr:
    """Names a value, so that it is computed once."""
    return T.bind(value)


def hold(value: Expr) -> Expr:
    """Names a value for good. The simplifier puts a pure expression back wherever the name that `bind` gave it is used,
    so that trees of shared expressions grow exponentially (seconds in LLVM); a local register it leaves alone."""
    dtype = str(value.ty.dtype)
    register = alloc(1, dtype)
    store(register, 0, value)
    return T.bind(load(register, 0))


def alloc(elements: int, dtype: str) -> Expr:
    """A small local array that must end up in registers; `dtype` may be a vector ('int32x8')."""
    return T.alloc_buffer((elements,), dtype, scope="local", annotations={"disable_lower_builtin": True})


def load(buffer: Expr, index: Expr | int) -> Expr:
    """One element."""
    return tirx.BufferLoad(buffer, [i32(index)])


def store(buffer: Expr, index: Expr | int, value: Expr) -> None:
    """Stores one element."""
    T.buffer_store(buffer, value, [i32(index)])


def vload(buffer: Expr, index: Expr | int, lanes: int) -> Expr:
    """`lanes` consecutive elements from `index` on."""
    if lanes == 1:
        return load(buffer, index)
    return tirx.BufferLoad(buffer, [tirx.Ramp(i32(index), _const(1, "int32"), lanes)])


def vstore(buffer: Expr, index: Expr | int, value: Expr, lanes: int) -> None:
    """Stores `lanes` consecutive elements from `index` on."""
    if lanes == 1:
        store(buffer, index, value)
    else:
        T.buffer_store(buffer, value, [tirx.Ramp(i32(index), _const(1, "int32"), lanes)])


def elements(buffer: Expr, dtype: str) -> Expr:
    """The memory of an s32 buffer as narrower elements ('int16', 'int8')."""
    count = buffer.shape[0] * (32 // int(dtype.removeprefix("int")))
    return T.decl_buffer((count,), dtype, data=buffer.data, align=1)


def address(buffer: Expr, index: Expr | int) -> Expr:
    """Pointer to an element."""
    return _op.address_of(tirx.BufferLoad(buffer, [i32(index)]))


def fetch(buffer: Expr, index: Expr | int) -> None:
    """Asks for the cache line of an element, into the second level; nowhere an error, not even behind the end."""
    T.evaluate(_op.call_llvm_intrin("void", "llvm.prefetch", address(buffer, index), const(0), const(2), const(1)))


def call(name: str, *arguments: Expr) -> None:
    """Calls a C function for what it does to memory."""
    T.evaluate(_op.call_extern("void", name, *arguments))


def broadcast(value: Expr, lanes: int) -> Expr:
    """The scalar in every lane."""
    return tirx.Broadcast(value, lanes) if lanes > 1 else value


def cast(dtype: str, value: Expr) -> Expr:
    """Numeric conversion, lane by lane."""
    return tirx.Cast(dtype, value)


def reinterpret(dtype: str, value: Expr) -> Expr:
    """The same bits as another type."""
    return _op.reinterpret(dtype, value)


def shuffle(vectors: Sequence[Expr], lanes: Sequence[int]) -> Expr:
    """Lanes picked from the concatenation of the vectors."""
    return tirx.Shuffle(list(vectors), [_const(int(lane), "int32") for lane in lanes])


def intrin(dtype: str, name: str, *arguments: Expr) -> Expr:
    """An LLVM intrinsic without side effects, e.g. 'llvm.x86.avx2.pmadd.wd'."""
    return _op.call_llvm_pure_intrin(dtype, name, *arguments)


@contextmanager
def kernel(
    symbol: str, parameters: Sequence[tuple[str, str, int]], *, words_aligned: bool = False
) -> Iterator[tuple[list[Any], Expr, Expr, list[Expr]]]:
    """A kernel's frame `void symbol(int32 t0, int32 t1, pointers...)`; write the body inside.

    Args:
        parameters: (name, dtype, elements) of each pointer in operand order, dtype as in 'u8', 's16'.
        words_aligned: s32 operands lie on multiples of 4 bytes, so that loads of two words become one.

    Yields:
        (result, t0, t1, buffers): flat buffers in the same order; `result[0]` is the PrimFunc after the block.
    """
    result: list[Any] = []
    with IRBuilder() as builder:
        with T.prim_func(s_tir=True):
            T.func_name(symbol)
            T.func_attr({"global_symbol": symbol, "tirx.noalias": True})
            t0 = T.arg("t0", tirx.Var("t0", "int32"))
            t1 = T.arg("t1", tirx.Var("t1", "int32"))
            types = [TVM_DTYPE.get(dtype, dtype) for _, dtype, _ in parameters]
            pointers = [T.arg(p[0], T.ptr(dtype)) for p, dtype in zip(parameters, types, strict=True)]
            buffers = [
                T.decl_buffer((p[2],), dtype, data=data, align=4 if words_aligned and dtype == "int32" else 1)
                for p, dtype, data in zip(parameters, types, pointers, strict=True)
            ]
            yield result, t0, t1, buffers
        result.append(builder.get())
