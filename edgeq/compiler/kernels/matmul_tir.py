"""TIR of matmul.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DType
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
        self.width = 2 * isa.lanes

    def scalar(self, buffer: Expr, index: Expr, zero_point: int) -> Expr:
        """One element without its zero point, s32."""
        return tir.bind(tir.cast("int32", tir.load(buffer, index)) - zero_point)

    def vector(self, buffer: Expr, index: Expr, dtype: DType, zero_point: int, width: int) -> Expr:
        """Consecutive elements without their zero point, s16."""
        value = load16(buffer, index, dtype, 1, width)
        return tir.bind(value - self.isa.splat(zero_point, "int16", width)) if zero_point else value

    def state(self, registers: int) -> Expr:
        """Zeroed accumulators."""
        lanes = self.isa.lanes
        state = tir.alloc(registers * lanes, "int32")
        for r in range(registers):
            tir.vstore(state, r * lanes, self.isa.splat(0, "int32", lanes), lanes)
        return state

    def groups(self, body: Callable[[Expr, int], None]) -> None:
        """body(first column, columns) for every group of 2 · lanes columns."""
        full, tail = divmod(self.spec.n, self.width)
        if full:
            with T.serial(0, full) as v:
                body(tir.bind(v * self.width), self.width)
        if tail:
            body(tir.const(full * self.width), tail)

    def columns(self, offsets: Sequence[Expr], rows: int) -> None:
        """A block of rows times all columns, a vector of columns at a time."""
        spec, lanes = self.spec, self.isa.lanes

        def block(column: Expr, valid: int) -> None:
            registers = -(-valid // lanes)
            state = self.state(rows * registers)
            if spec.k > 1:
                with T.serial(0, spec.k // 2) as pair:
                    self._step(state, offsets, tir.bind(pair * 2), column, (rows, registers), both=True)
            if spec.k % 2:
                self._step(state, offsets, tir.const(spec.k - 1), column, (rows, registers), both=False)
            position = self.writer.position(column)
            for row in range(rows):
                acc = [tir.hold(tir.vload(state, (row * registers + r) * lanes, lanes)) for r in range(registers)]
                self.writer.write(self._natural(acc), position, self.y, offsets[2] + row * spec.y_m + column, valid)

        self.groups(block)

    def _step(
        self, state: Expr, offsets: Sequence[Expr], k: Expr, column: Expr, tile: tuple[int, int], both: bool
    ) -> None:
        """Two rows of b (or its last one) into the accumulators, which are in pack order."""
        spec, lanes, (rows, registers) = self.spec, self.isa.lanes, tile
        places = [offsets[1] + (k + step) * spec.b_k + column for step in range(2 if both else 1)]
        right = [self.vector(self.b, p, spec.b_dtype, spec.b_zero_point, registers * lanes) for p in places]
        for row in range(rows):
            start = offsets[0] + row * spec.a_m
            left = [self.scalar(self.a, start + (k + step) * spec.a_k, spec.a_zero_point) for step in range(len(right))]
            sums = self.isa.weighted_pair(right[0], right[-1], left[0], left[1] if both else tir.const(0))
            for r, value in enumerate(sums):
                at = (row * registers + r) * lanes
                tir.vstore(state, at, tir.vload(state, at, lanes) + value, lanes)

    def _natural(self, registers: list[Expr]) -> list[Expr]:
        """Registers in pack order -> in column order."""
        lanes, order = self.isa.lanes, self.isa.order(len(registers))
        picks = [order.index(lane) for lane in range(len(order))]
        if picks == sorted(picks):
            return registers
        return [tir.shuffle(registers, picks[r * lanes : (r + 1) * lanes]) for r in range(len(registers))]

    def single(self, offsets: Sequence[Expr]) -> None:
        """One row; sums go one by one into a small array that is written as vectors where y is contiguous."""
        spec, lanes = self.spec, self.isa.lanes
        if spec.y_n != 1 or spec.scales.walk == "classes":
            with T.serial(0, spec.n) as column:
                acc = [tir.bind(tir.broadcast(self._total(offsets, column), lanes))]
                position = self.writer.position(column)
                self.writer.write(acc, position, self.y, offsets[2] + column * spec.y_n, 1)
            return
        sums = tir.alloc(self.width, "int32")

        def block(first: Expr, valid: int) -> None:
            with T.serial(0, valid) as i:
                tir.store(sums, i, self._total(offsets, first + i))
            acc = [tir.vload(sums, r * lanes, lanes) for r in range(-(-valid // lanes))]
            self.writer.write(acc, self.writer.position(first), self.y, offsets[2] + first, valid)

        self.groups(block)

    def _total(self, offsets: Sequence[Expr], column: Expr) -> Expr:
        """The sum for one column, s32; vectors along k where both sides are contiguous."""
        spec = self.spec
        full = spec.k // self.width if spec.walk == "dots" else 0
        rest = spec.k - full * self.width
        right = tir.bind(offsets[1] + column * spec.b_n)
        wide, last = self.state(1), tir.alloc(1, "int32")
        tir.store(last, 0, tir.const(0))
        if full:
            with T.serial(0, full) as v:
                left = self.vector(self.a, offsets[0] + v * self.width, spec.a_dtype, spec.a_zero_point, self.width)
                other = self.vector(self.b, right + v * self.width, spec.b_dtype, spec.b_zero_point, self.width)
                tir.vstore(wide, 0, tir.vload(wide, 0, self.isa.lanes) + self.isa.dot(left, other), self.isa.lanes)
        if rest:
            with T.serial(0, rest) as i:
                k = tir.bind(i + full * self.width)
                one = self.scalar(self.a, offsets[0] + k * spec.a_k, spec.a_zero_point)
                two = self.scalar(self.b, right + k * spec.b_k, spec.b_zero_point)
                tir.store(last, 0, tir.load(last, 0) + one * two)
        total = tir.load(last, 0)
        if full:
            total = total + tir.intrin("int32", "llvm.vector.reduce.add", tir.vload(wide, 0, self.isa.lanes))
        return tir.bind(total)


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
