"""TIR of matmul.py: pack a task's columns, then tiles of rows times blocks of columns. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import lanes_of
from edgeq.compiler.isa.products import Run
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.matmul.matmul import COLUMNS_PER_TASK, MatMulSpec
from edgeq.compiler.kernels.matmul.panel import PanelPacker
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target

_STAGE_LANES = 16


@dataclass(frozen=True)
class _Block:
    """One block of columns: its number in the task, registers, columns to store, and where things start.

    Attributes:
        column: of the matrix; panel: element of the scratch buffer; start: of its correction registers there.
    """

    vectors: int
    count: int
    column: Expr
    panel: Expr
    start: Expr


def emit_matmul(spec: MatMulSpec, target: Target) -> Expr:
    """The PrimFunc of a matrix product."""
    with tir.kernel(spec.symbol(target), spec.parameters(target)) as (out, t0, t1, buffers):
        named = dict(zip([operand.name for operand in spec.operands()], buffers, strict=True))
        emitter = _MatMul(spec, target, named)
        # Tasks are never negative, but LLVM doesn't know: see Run.zero.
        emitter.zero = tir.bind(_op.shift_right(t0, tir.const(31)))
        with loops.span(t0, t1) as task:
            emitter.task(task)
    return out[0]


class _MatMul:
    def __init__(self, spec: MatMulSpec, target: Target, buffers: dict[str, Expr]) -> None:
        self.spec, self.target, self.buffers = spec, target, buffers
        self.plan, self.isa = spec.plan(target), isa_of(target)
        self.product = self.plan.product
        self.scratch = buffers["scratch"]
        natural = spec.epilogue.form == "none"
        self.packer = PanelPacker(spec, self.plan, self.isa, buffers["b"], self.scratch, natural)
        self.epilogue = EpilogueEmitter(
            spec.epilogue, target, spec.layout(target), buffers["params"], table=buffers.get("table")
        )

        self.zero: Expr = 0

    # --- what a task is -----------------------------------------------------------------------------------------------

    def task(self, task: Expr) -> None:
        """64 columns of one matrix of the batch."""
        spec, plan = self.spec, self.plan
        splits = -(-spec.n // COLUMNS_PER_TASK)
        split = tir.bind(loops.remainder(task, splits))
        rest = tir.bind(loops.divide(task, splits))
        a, b, y = tir.const(0), tir.const(0), tir.const(0)
        for d in reversed(range(len(spec.batch))):
            index = tir.bind(loops.remainder(rest, spec.batch[d])) if d else rest
            rest = tir.bind(loops.divide(rest, spec.batch[d])) if d else rest
            a, b, y = a + index * spec.a_batch[d], b + index * spec.b_batch[d], y + index * spec.y_batch[d]
        a, b, y = (tir.bind(v) for v in (a, b, y))
        blocks = COLUMNS_PER_TASK // plan.columns
        first = tir.bind(split * blocks)
        whole = spec.n // plan.columns
        # Full blocks of this task, and whether it is the one with the narrower block at the end.
        full = whole if splits == 1 else tir.bind(tir.tirx.max(tir.tirx.min(whole - first, tir.const(blocks)), 0))
        last = 1 if splits == 1 else tir.bind(tir.cast("int32", split == splits - 1))
        kinds = [(full, tir.const(0), plan.vectors, plan.columns)] if whole else []
        if spec.n % plan.columns:
            tail = spec.n % plan.columns
            kinds.append((last, tir.i32(full), -(-tail // self.isa.lanes), tail))

        def each_block(body: Callable[[_Block], None]) -> None:
            for many, begin, vectors, count in kinds:
                with loops.span(begin, begin + many) as block:
                    body(self._block(block, first, vectors, count))

        each_block(lambda block: self._prepare(block, b))
        full_rows, rest_rows = divmod(spec.m, plan.rows)
        for rows, begin, many in ((plan.rows, 0, full_rows), (rest_rows, full_rows, 1)):
            if rows and many:
                with T.serial(0, many) as tile:
                    row = tir.bind((tile + begin) * plan.rows)
                    self._rows(tir.bind(a + row * spec.a_m), tir.bind(y + row * spec.y_m), rows, each_block)

    def _block(self, block: Expr, first: Expr, vectors: int, count: int) -> _Block:
        plan = self.plan
        size = plan.groups * self.product.group * plan.columns
        column = tir.bind((first + block) * plan.columns)
        start = plan.panel_elements + block * (4 * plan.columns)
        return _Block(vectors, count, column, tir.bind(block * size), tir.bind(start))

    # --- before the rows ----------------------------------------------------------------------------------------------

    def _prepare(self, block: _Block, b: Expr) -> None:
        """Packs the block; where zero points need it, keeps what its accumulators start from."""
        plan, spec, lanes = self.plan, self.spec, self.isa.lanes
        source = tir.bind(b + block.column * (spec.b_n if spec.along_k else 1))
        self.packer.pack(source, block.panel, block.vectors, block.count)
        if not plan.a_offset:
            return
        zeros = [[self.isa.splat(0, "int32", lanes)] * block.vectors]
        sums = self._product(zeros, block, self.buffers["ones"], lambda row: tir.const(0))[0]
        constant = _wrapped(spec.k * plan.a_offset * plan.b_offset)
        for v in range(block.vectors):
            start = self.isa.splat(constant, "int32", lanes) - sums[v] * self.isa.splat(plan.a_offset, "int32", lanes)
            tir.vstore(
                self.scratch, block.start + 4 * lanes * v, tir.reinterpret(f"int8x{4 * lanes}", start), 4 * lanes
            )

    def _product(
        self, starts: list[list[Expr]], block: _Block, x: Expr, x_index: Callable[[int], Expr]
    ) -> list[list[Expr]]:
        """`starts` plus rows of x times the block's columns, [row][vector]."""
        initial = self.product.initial(starts)
        acc = tir.alloc(len(initial), f"int32x{self.isa.lanes}")
        for number, value in enumerate(initial):
            tir.store(acc, number, value)
        groups, rows = self.plan.groups, len(starts)
        run = Run(acc, rows, block.vectors, x, x_index, self.scratch, block.panel, groups, zero=self.zero)
        self.product.accumulate(run)
        results = self.product.results([tir.load(acc, number) for number in range(len(initial))], starts)
        return [[tir.bind(register) for register in row] for row in results]

    # --- the rows -----------------------------------------------------------------------------------------------------

    def _rows(self, a: Expr, y: Expr, rows: int, each_block: Callable[[Callable[[_Block], None]], None]) -> None:
        """A tile of rows times every block of the task."""
        x, step, base = self.buffers["a"], self.spec.a_m, a
        if self.product.stages:
            x, step = self.scratch, self.plan.stage_elements // self.plan.rows
            base = tir.const(self.plan.panel_elements)
            self._stage(a, base, step, rows)
        terms = [self._row_term(a + row * self.spec.a_m) for row in range(rows)] if self.plan.b_offset else None

        def tile(block: _Block) -> None:
            columns = self._starts(block)
            starts = [columns] * rows
            if terms is not None:
                starts = [[c + tir.broadcast(term, self.isa.lanes) for c in columns] for term in terms]
            results = self._product(starts, block, x, lambda row: base + row * step)
            position = block.column if self.spec.epilogue.per_channel else tir.const(0)
            for row, registers in enumerate(results):
                place = y + row * self.spec.y_m + block.column
                self.epilogue.write(registers, position, self.buffers["y"], place, block.count)

        each_block(tile)

    def _starts(self, block: _Block) -> list[Expr]:
        """What the accumulators of a block start from: the epilogue's rounding and the corrections by column."""
        lanes = self.isa.lanes
        if self.spec.epilogue.form in ("none", "single"):  # their bias is zero
            starts = [self.isa.splat(0, "int32", lanes)] * block.vectors
        else:
            position = block.column if self.spec.epilogue.per_channel else tir.const(0)
            starts = self.epilogue.bias(position, block.vectors)
        if self.plan.a_offset:
            for v in range(block.vectors):
                kept = tir.vload(self.scratch, block.start + 4 * lanes * v, 4 * lanes)
                starts[v] = starts[v] + tir.reinterpret(f"int32x{lanes}", kept)
        return [tir.bind(start) for start in starts]

    def _stage(self, source: Expr, place: Expr, step: int, rows: int) -> None:
        """A tile's rows as s16 without their zero point; reads behind a row by less than a vector."""
        lanes, zero = _STAGE_LANES, self.spec.a_zero_point
        for row in range(rows):
            with T.serial(0, -(-self.spec.k // lanes)) as v:
                value = tir.cast(
                    f"int16x{lanes}", tir.vload(self.buffers["a"], source + row * self.spec.a_m + v * lanes, lanes)
                )
                if zero:
                    value = value - self.isa.splat(zero, "int16", lanes)
                tir.vstore(self.scratch, place + row * step + v * lanes, value, lanes)

    def _row_term(self, source: Expr) -> Expr:
        """−zb' · Σ of a row of a', s32."""
        spec, width = self.spec, self.target.vector_bytes
        flipped = 0
        if self.product.flips:
            flipped = 128 if spec.a_dtype == "s8" else -128
        full, rest = divmod(spec.k, width)
        dtype = TVM_DTYPE[spec.a_dtype]

        def sums(index: Expr, valid: int) -> Expr:
            value = tir.vload(self.buffers["a"], index, width)
            if valid < width:  # what lies behind the row is read but doesn't count
                lanes = tir.tirx.Ramp(tir.const(0), tir.const(1), width)
                inside = lanes < tir.broadcast(tir.const(valid), width)
                value = tir.tirx.Select(inside, value, tir.broadcast(tir.const(0, dtype), width))
            return self.isa.byte_sums(value)

        last = sums(source + full * width, rest) if rest else None
        lanes = lanes_of(sums(source, width))
        state = tir.alloc(1, f"int32x{lanes}")
        tir.store(state, 0, tir.broadcast(tir.const(0), lanes) if last is None else last)
        if full:
            with T.serial(0, full) as v:
                tir.store(state, 0, tir.load(state, 0) + sums(source + v * width, width))
        total = _lane_sum(tir.load(state, 0), lanes) + tir.const(flipped * spec.k)
        return tir.bind(total * tir.const(-self.plan.b_offset))


def _lane_sum(value: Expr, lanes: int) -> Expr:
    return tir.intrin("int32", f"llvm.vector.reduce.add.v{lanes}i32", value)


def _wrapped(value: int) -> int:
    """Modulo 2^32, signed: sums wrap on the way and end inside 32 bits."""
    return (value + 2**31) % 2**32 - 2**31
