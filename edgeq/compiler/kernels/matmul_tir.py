"""TIR of matmul.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.epilogue import isa_of
from edgeq.compiler.kernels.matmul import ROWS, MatMulSpec
from edgeq.compiler.kernels.requantize_tir import ScaledWriter, scale_parameters
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import load16
from edgeq.compiler.target import Target


class _Product:
    """What the three walks share."""

    def __init__(self, spec: MatMulSpec, isa: Isa, buffers: tuple[Expr, Expr, Expr], writer: ScaledWriter) -> None:
        self.spec, self.isa, self.writer = spec, isa, writer
        self.a, self.b, self.y = buffers

    def scalar(self, buffer: Expr, index: Expr, zero_point: int) -> Expr:
        """One element without its zero point, s32."""
        return tir.bind(tir.cast("int32", tir.load(buffer, index)) - zero_point)

    def vector(self, buffer: Expr, index: Expr, dtype: str, zero_point: int, registers: int) -> list[Expr]:
        """Consecutive elements without their zero point as s32 registers in natural order."""
        isa, width = self.isa, registers * self.isa.lanes
        value = load16(buffer, index, dtype, 1, width)  # type: ignore[arg-type]
        if zero_point:
            value = tir.bind(value - isa.splat(zero_point, "int16", width))
        return [tir.bind(tir.cast(f"int32x{isa.lanes}", part)) for part in isa.split(value, registers)]

    def state(self, registers: int) -> Expr:
        """Zeroed accumulators."""
        lanes = self.isa.lanes
        state = tir.alloc(registers * lanes, "int32")
        for r in range(registers):
            tir.vstore(state, r * lanes, self.isa.splat(0, "int32", lanes), lanes)
        return state

    def columns(self, offsets: Sequence[Expr], rows: int) -> None:
        """A block of rows times all columns, a vector of columns at a time."""
        spec, lanes = self.spec, self.isa.lanes
        full, tail = divmod(spec.n, 2 * lanes)
        if full:
            with T.serial(0, full) as v:
                self._block(offsets, rows, tir.bind(v * (2 * lanes)), 2, 2 * lanes)
        if tail:
            self._block(offsets, rows, tir.const(full * 2 * lanes), -(-tail // lanes), tail)

    def _block(self, offsets: Sequence[Expr], rows: int, column: Expr, registers: int, valid: int) -> None:
        spec, lanes = self.spec, self.isa.lanes
        state = self.state(rows * registers)
        with T.serial(0, spec.k) as k:
            right = self.vector(self.b, offsets[1] + k * spec.b_k + column, spec.b_dtype, spec.b_zero_point, registers)
            for row in range(rows):
                place = offsets[0] + row * spec.a_m + k * spec.a_k
                left = tir.bind(tir.broadcast(self.scalar(self.a, place, spec.a_zero_point), lanes))
                for r, value in enumerate(right):
                    at = (row * registers + r) * lanes
                    tir.vstore(state, at, tir.vload(state, at, lanes) + left * value, lanes)
        position = self.writer.position(column)
        for row in range(rows):
            acc = [tir.vload(state, (row * registers + r) * lanes, lanes) for r in range(registers)]
            self.writer.write(acc, position, self.y, offsets[2] + row * spec.y_m + column, valid)

    def single(self, offsets: Sequence[Expr]) -> None:
        """One row, one output after the other; vectors along k where both sides are contiguous."""
        spec, lanes = self.spec, self.isa.lanes
        full = spec.k // lanes if spec.walk == "dots" else 0
        rest = spec.k - full * lanes
        with T.serial(0, spec.n) as column:
            right = tir.bind(offsets[1] + column * spec.b_n)
            wide, last = self.state(1), tir.alloc(1, "int32")
            tir.store(last, 0, tir.const(0))
            if full:
                with T.serial(0, full) as v:
                    left = self.vector(self.a, offsets[0] + v * lanes, spec.a_dtype, spec.a_zero_point, 1)[0]
                    other = self.vector(self.b, right + v * lanes, spec.b_dtype, spec.b_zero_point, 1)[0]
                    tir.vstore(wide, 0, tir.vload(wide, 0, lanes) + left * other, lanes)
            if rest:
                with T.serial(0, rest) as i:
                    k = tir.bind(i + full * lanes)
                    one = self.scalar(self.a, offsets[0] + k * spec.a_k, spec.a_zero_point)
                    two = self.scalar(self.b, right + k * spec.b_k, spec.b_zero_point)
                    tir.store(last, 0, tir.load(last, 0) + one * two)
            total = tir.load(last, 0)
            for lane in range(lanes if full else 0):
                total = tir.bind(total + tir.load(wide, lane))
            acc = [tir.bind(tir.broadcast(total, lanes))]
            self.writer.write(acc, self.writer.position(column), self.y, offsets[2] + column * spec.y_n, 1)


def matmul(spec: MatMulSpec, target: Target) -> Expr:
    """The PrimFunc of a matrix product."""
    isa, nest = isa_of(target), spec.nest
    a_elements, b_elements, y_elements = spec.extents()
    extra = scale_parameters(spec.epilogue, spec.scales, target)
    inputs = [("a", spec.a_dtype, a_elements), ("b", spec.b_dtype, b_elements)]
    with tir.kernel(spec.symbol(target), [*inputs, *extra, ("y", spec.epilogue.dtype, y_elements)]) as (
        out, t0, t1, (a, b, *weights, y),
    ):  # fmt: skip
        product = _Product(spec, isa, (a, b, y), ScaledWriter(spec.epilogue, spec.scales, target, weights))
        with loops.span(t0, t1) as task:
            blocks = nest.shape[-1]
            block = tir.bind(loops.remainder(task, blocks))
            offsets = _offsets(spec, task, block)
            if spec.walk == "columns":
                _row_blocks(spec.m, block, lambda rows: product.columns(offsets, rows))
            else:
                product.single(offsets)
    return out[0]


def _offsets(spec: MatMulSpec, task: Expr, block: Expr) -> list[Expr]:
    nest = spec.nest
    rest = tir.bind(loops.divide(task, nest.shape[-1]))
    offsets = [block * s[-1] for s in nest.strides]
    for d in reversed(range(len(nest.shape) - 1)):
        index = tir.bind(loops.remainder(rest, nest.shape[d]))
        rest = tir.bind(loops.divide(rest, nest.shape[d]))
        offsets = [o + index * s[d] for o, s in zip(offsets, nest.strides, strict=True)]
    return [tir.bind(o) for o in offsets]


def _row_blocks(rows: int, block: Expr, body: Callable[[int], None]) -> None:
    """body(rows of this block): ROWS, or what is left in the last one."""
    full, tail = divmod(rows, ROWS)
    if not full:
        body(tail)
    elif not tail:
        body(ROWS)
    else:
        with T.If(block < full):
            with T.Then():
                body(ROWS)
            with T.Else():
                body(tail)
