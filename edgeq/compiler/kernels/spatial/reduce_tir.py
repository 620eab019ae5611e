"""TIR of reduce.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, TVM_DTYPE
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.epilogue.requantize_tir import ScaledWriter, scale_parameters
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.spatial.reduce import ArgMaxSpec, ReduceSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import load32
from edgeq.compiler.target import Target


def each_offset(nest: Nest, base: Expr, body: Callable[[Expr], None], inner: int = 0) -> None:
    """Loops over the nest's first operand: body(offset), for all dimensions but the innermost `inner` ones."""
    with ExitStack() as stack:
        offset = base
        for extent, stride in list(zip(nest.shape, nest.strides[0], strict=True))[: len(nest.shape) - inner]:
            if extent > 1:
                offset = tir.bind(offset + stack.enter_context(T.serial(0, extent)) * stride)
        body(offset)


class _Fold:
    """Accumulators of one reduction: s32 for sums, the input's own type for maxima."""

    def __init__(self, spec: ReduceSpec, source: Expr) -> None:
        self.spec, self.source = spec, source
        self.sums = spec.op == "sum"
        self.dtype = "int32" if self.sums else TVM_DTYPE[spec.x_dtype]
        self.first = 0 if self.sums else DTYPE_RANGE[spec.x_dtype][0]

    def start(self, lanes: int, registers: int = 1) -> Expr:
        state = tir.alloc(registers * lanes, self.dtype)
        for r in range(registers):
            tir.vstore(state, r * lanes, tir.broadcast(tir.const(self.first, self.dtype), lanes), lanes)
        return state

    def add(self, state: Expr, offset: Expr, lanes: int, registers: int = 1) -> None:
        if self.sums and lanes > 1:
            values = load32(self.source, offset, 1, lanes, registers)
        else:
            values = [tir.vload(self.source, offset + r * lanes, lanes) for r in range(registers)]
            values = [tir.cast("int32", v) for v in values] if self.sums else values
        for r, value in enumerate(values):
            old = tir.vload(state, r * lanes, lanes)
            new = old + value if self.sums else tir.tirx.max(old, value)
            tir.vstore(state, r * lanes, new, lanes)

    def across(self, state: Expr, lanes: int) -> Expr:
        """All lanes of a state folded into one scalar."""
        rest = [tir.load(state, lane) for lane in range(lanes)]
        while len(rest) > 1:
            pairs = zip(rest[::2], rest[1::2], strict=True)
            rest = [tir.bind(a + b if self.sums else tir.tirx.max(a, b)) for a, b in pairs]
        return rest[0]


def reduce(spec: ReduceSpec, target: Target) -> Expr:
    """The PrimFunc of a sum or maximum."""
    nest = spec.nest
    extra = scale_parameters(spec.epilogue, spec.scales, target) if spec.epilogue else []
    dtype = spec.epilogue.dtype if spec.epilogue else spec.x_dtype
    parameters = [("x", spec.x_dtype, spec.x_elements), *extra, ("y", dtype, nest.extent(2))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, *weights, y)):
        writer = ScaledWriter(spec.epilogue, spec.scales, target, weights) if spec.epilogue else None
        (_across if spec.across else _along)(spec, target, (t0, t1), _Fold(spec, x), writer, y)
    return out[0]


def _across(
    spec: ReduceSpec, target: Target, tasks: tuple[Expr, Expr], fold: _Fold, writer: ScaledWriter | None, y: Expr
) -> None:
    """Vectors of neighbouring outputs."""
    isa = isa_of(target)

    def sums(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
        width = min(lanes, 2 * isa.lanes)
        for start in range(0, valid, width):
            registers = -(-min(width, valid - start) // isa.lanes)
            state = fold.start(isa.lanes, registers)

            def add(offset: Expr, state: Expr = state, registers: int = registers) -> None:
                fold.add(state, offset, isa.lanes, registers)

            each_offset(spec.inner, offsets[0] + start, add)
            acc = [tir.vload(state, r * isa.lanes, isa.lanes) for r in range(registers)]
            _finish(spec, writer, acc, offsets, y, start, min(width, valid - start), isa.lanes)

    def maxima(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
        state = fold.start(lanes)
        each_offset(spec.inner, offsets[0], lambda o: fold.add(state, o, lanes))
        loops.store_valid(y, offsets[2], tir.bind(tir.vload(state, 0, lanes)), lanes, valid)

    widest = 2 * isa.lanes if writer else target.vector_bytes // DTYPE_BYTES[spec.x_dtype]
    loops.sweep(spec.nest, spec.split(), *tasks, widest, sums if writer else maxima)


def _along(
    spec: ReduceSpec, target: Target, tasks: tuple[Expr, Expr], fold: _Fold, writer: ScaledWriter | None, y: Expr
) -> None:
    """One output after the other; vectors along the innermost reduced dimension where it is contiguous."""
    isa, inner = isa_of(target), spec.inner
    lanes = isa.lanes if fold.sums else loops.MIN_LANES
    full = inner.inner // lanes if inner.inner_strides == (1,) else 0

    def one(offsets: Sequence[Expr]) -> None:
        wide, single = fold.start(lanes), fold.start(1)

        def row(offset: Expr) -> None:
            if full:
                with T.serial(0, full) as v:
                    fold.add(wide, offset + v * lanes, lanes)
            if inner.inner > full * lanes:
                with T.serial(0, inner.inner - full * lanes) as i:
                    fold.add(single, offset + (i + full * lanes) * inner.inner_strides[0], 1)

        each_offset(inner, offsets[0], row, inner=1)
        total = fold.across(wide, lanes) if full else tir.const(fold.first, fold.dtype)
        rest = tir.load(single, 0)
        if writer is None:
            tir.store(y, offsets[2], tir.tirx.max(total, rest))
            return
        acc = [tir.bind(tir.broadcast(total + rest, isa.lanes))]
        _finish(spec, writer, acc, offsets, y, 0, 1, isa.lanes)

    loops.sweep_scalar(spec.nest, spec.split(), *tasks, one)


def _finish(
    spec: ReduceSpec, writer: ScaledWriter | None, acc: list[Expr], offsets: Sequence[Expr], y: Expr, start: int,
    valid: int, lanes: int,
) -> None:  # fmt: skip
    """Takes the zero points off, requantizes and stores."""
    assert writer is not None
    zeros = spec.x_zero_point
    for extent in spec.reduced:
        zeros *= extent
    offset = tir.broadcast(tir.const((zeros + 2**31) % 2**32 - 2**31), lanes)
    centred = [value - offset for value in acc] if zeros else acc
    writer.write(centred, writer.position(offsets[1], start), y, offsets[2] + start, valid)


def argmax(spec: ArgMaxSpec, target: Target) -> Expr:
    """The PrimFunc of an ArgMax."""
    nest = spec.nest
    elements = nest.extent(0) + (spec.length - 1) * spec.step
    dtype = TVM_DTYPE[spec.x_dtype]
    with tir.kernel(spec.symbol(target), [("x", spec.x_dtype, elements), ("y", "s64", nest.extent(1))]) as (
        out, t0, t1, (x, y),
    ):  # fmt: skip

        def one(offsets: Sequence[Expr]) -> None:
            best, index = tir.alloc(1, dtype), tir.alloc(1, "int32")
            tir.store(best, 0, tir.load(x, offsets[0]))
            tir.store(index, 0, tir.const(0))
            if spec.length > 1:
                with loops.span(1, spec.length) as i:
                    value, old = tir.bind(tir.load(x, offsets[0] + i * spec.step)), tir.bind(tir.load(best, 0))
                    better = (value >= old) if spec.last else (value > old)
                    tir.store(index, 0, tir.tirx.Select(better, i, tir.load(index, 0)))
                    tir.store(best, 0, tir.tirx.max(value, old))
            tir.store(y, offsets[1], tir.cast("int64", tir.load(index, 0)))

        loops.sweep_scalar(nest, spec.split(), t0, t1, one)
    return out[0]
