"""TIR of norm.py: sums of a block's rows, their square roots together, then every row's elements. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.nested import ROWS
from edgeq.compiler.kernels.nonlinear.norm import NormSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import finish, load32, store16
from edgeq.compiler.target import Target

_SUM, _NORMAL, _QUARTERS, _ROOT = range(4)  # sections of the scratch words, ROWS each


def norm(spec: NormSpec, target: Target) -> Expr:
    """The PrimFunc of a normalisation."""
    nest = spec.nest
    channels = spec.channel_elements(target)
    weights = [("gamma", "s32", channels), *([("beta", "s32", channels)] if spec.kind == "layer" else [])]
    x_elements, y_elements = (nest.extent(k) + spec.length - 1 for k in (0, 1))
    parameters = [
        ("x", spec.x_dtype, x_elements), *weights, ("scratch", "s32", spec.scratch_bytes(target) // 4),
        ("y", spec.dtype, y_elements),
    ]  # fmt: skip
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, buffers):
        named = dict(zip([p[0] for p in parameters], buffers, strict=True))
        emitter = _Norm(spec, isa_of(target), named)

        def block(offsets: Sequence[Expr], first: Expr) -> None:
            count = loops.block_rows(nest.inner, ROWS, first)
            x_row, y_row = (s[-1] for s in nest.strides)
            with T.serial(0, count) as r:
                emitter.sums(tir.bind(offsets[0] + r * x_row), r)
            emitter.roots()
            with T.serial(0, count) as r:
                emitter.elements(tir.bind(offsets[0] + r * x_row), tir.bind(offsets[1] + r * y_row), r)

        loops.each_block(spec.blocks, spec.split(), t0, t1, block)
    return out[0]


def _i64(value: Expr | int) -> Expr:
    return tir.const(value, "int64") if isinstance(value, int) else tir.cast("int64", value)


class _Norm:
    def __init__(self, spec: NormSpec, isa: Isa, buffers: dict[str, Expr]) -> None:
        self.spec, self.isa, self.buffers = spec, isa, buffers
        self.scratch = buffers["scratch"]

    def _word(self, section: int, row: Expr) -> Expr:
        return tir.bind(tir.load(self.scratch, row + section * ROWS))

    # --- sums of a row ------------------------------------------------------------------------------------------------

    def sums(self, base: Expr, row: Expr) -> None:
        """Keeps S, W and c of a row."""
        total, squares = self._totals(base)
        spec, n = self.spec, self.spec.length
        v = _i64(n) * squares + _i64(spec.epsilon)
        if spec.kind == "layer":
            v = v - _i64(total) * _i64(total)
        least = max(n - 1, 1) if spec.kind == "layer" else n
        v = tir.bind(tir.tirx.max(v, _i64(least)))
        # floor(log4 V) from the bits of V
        quarters = tir.bind(_op.shift_right(tir.const(63) - tir.cast("int32", _op.clz(v)), tir.const(1)))
        up = _i64(tir.tirx.max(tir.const(30) - quarters * 2, tir.const(0)))
        down = _i64(tir.tirx.max(quarters * 2 - 30, tir.const(0)))
        normal = tir.cast("uint32", _op.shift_right(_op.shift_left(v, up), down))
        for section, value in ((_SUM, total), (_NORMAL, tir.reinterpret("int32", normal)), (_QUARTERS, quarters)):
            tir.store(self.scratch, row + section * ROWS, value)

    def _totals(self, base: Expr) -> tuple[Expr, Expr]:
        """(Σ x as s32, Σ x² as s64) of the stored values, less the zero point for kind rms."""
        spec, isa, lanes = self.spec, self.isa, self.isa.lanes
        step = 2 * lanes
        state = tir.alloc(3 * lanes, "int32")  # Σ x; Σ of the squares' lower and upper 16 bits
        for part in range(3):
            tir.vstore(state, part * lanes, isa.splat(0, "int32", lanes), lanes)
        ones = isa.splat(1, "int16", step)

        def add(part: int, value: Expr) -> None:
            tir.vstore(state, part * lanes, tir.vload(state, part * lanes, lanes) + value, lanes)

        def body(start: Expr, valid: int) -> None:
            value = tir.vload(self.buffers["x"], base + start, step)
            value = value if spec.x_dtype == "s16" else tir.cast(f"int16x{step}", value)
            if spec.x_zero_point:
                value = value - isa.splat(spec.x_zero_point, "int16", step)
            if valid < step:
                inside = tir.tirx.Ramp(tir.const(0), tir.const(1), step) < tir.broadcast(tir.const(valid), step)
                value = tir.tirx.Select(inside, value, isa.splat(0, "int16", step))
            value = tir.bind(value)
            if spec.kind == "layer":
                add(0, isa.dot_pairs(value, ones))
            squares = tir.bind(isa.dot_pairs(value, value))  # at most 2^31: unsigned
            if spec.x_dtype == "s16":
                add(1, squares & isa.splat(0xFFFF, "int32", lanes))
                unsigned = tir.reinterpret(f"uint32x{lanes}", squares)
                upper = _op.shift_right(unsigned, tir.broadcast(tir.const(16, "uint32"), lanes))
                add(2, tir.reinterpret(f"int32x{lanes}", upper))
            else:
                add(1, squares)

        _steps(spec.length, step, body)
        total, low, high = (
            tir.intrin("int32", f"llvm.vector.reduce.add.v{lanes}i32", tir.vload(state, part * lanes, lanes))
            for part in range(3)
        )
        # 255²·32768 < 2^31, and each half of the squares sums to at most 2^30.
        squares = _i64(low) + _op.shift_left(_i64(high), _i64(16)) if spec.x_dtype == "s16" else _i64(low)
        return tir.bind(total), tir.bind(squares)

    # --- square roots -------------------------------------------------------------------------------------------------

    def roots(self) -> None:
        """floor(√W) of all rows of a block, bit by bit; rows that aren't there hold anything."""
        lanes = min(self.isa.lanes, ROWS)
        with T.serial(0, ROWS // lanes) as part:
            place = tir.bind(part * lanes)
            normal = tir.reinterpret(f"uint32x{lanes}", tir.vload(self.scratch, place + _NORMAL * ROWS, lanes))
            normal, root = tir.hold(normal), tir.broadcast(tir.const(0, "uint32"), lanes)
            for bit in range(15, -1, -1):
                tried = tir.hold(root + tir.broadcast(tir.const(1 << bit, "uint32"), lanes))
                root = tir.hold(tir.tirx.Select(tried * tried <= normal, tried, root))
            tir.vstore(self.scratch, place + _ROOT * ROWS, tir.reinterpret(f"int32x{lanes}", root), lanes)

    # --- elements -----------------------------------------------------------------------------------------------------

    def _row_scale(self, row: Expr) -> tuple[Expr, Expr]:
        """(r, M less the rounding of t), both s32; x·r − M modulo 2^32 is p."""
        spec, n = self.spec, self.spec.length
        q = _op.truncdiv(tir.const(2**31, "uint32"), tir.reinterpret("uint32", self._word(_ROOT, row)))
        count = tir.bind(self._word(_QUARTERS, row) + (16 - spec.row_bits))
        up, down = (_i64(tir.tirx.max(c, tir.const(0))) for c in (-count, count))
        half = _op.shift_right(_op.shift_left(_i64(1), down), _i64(1))
        product = _op.shift_left(tir.cast("int64", q) * _i64(n), up)
        r = tir.bind(tir.cast("int32", _op.shift_right(product + half, down)))
        if spec.kind == "layer":
            m = tir.cast("int32", _op.floordiv(_i64(self._word(_SUM, row)) * _i64(r) + _i64(n // 2), _i64(n)))
        else:
            m = r * spec.x_zero_point
        drop = spec.row_bits - spec.fraction_bits
        return r, tir.bind(m - ((1 << drop) >> 1))

    def elements(self, x: Expr, y: Expr, row: Expr) -> None:
        """One row: normalise, scale by channel, store."""
        spec, isa, lanes = self.spec, self.isa, self.isa.lanes
        r, m = (tir.bind(tir.broadcast(value, lanes)) for value in self._row_scale(row))
        half = isa.splat((1 << spec.shift) >> 1, "int32", lanes)

        def body(start: Expr, valid: int) -> None:
            registers = []
            # The last step of a row loads behind it: beyond a step's first register only where elements are there.
            count = -(-valid // lanes)
            for k, value in enumerate(load32(self.buffers["x"], x + start, 1, lanes, count)):
                p = value * r - m
                t = isa.shift_right(p, spec.row_bits - spec.fraction_bits)
                place = start + k * lanes
                total = t * tir.vload(self.buffers["gamma"], place, lanes)
                total = total + (tir.vload(self.buffers["beta"], place, lanes) if spec.kind == "layer" else half)
                registers.append(tir.bind(isa.shift_right(total, spec.shift)))
            value = finish(isa, registers, spec.zero_point, spec.low, spec.high, spec.dtype, natural=True)
            store16(isa, self.buffers["y"], y + start, value, spec.dtype, valid)

        _steps(spec.length, 2 * lanes, body)


def _steps(length: int, step: int, body: Callable[[Expr, int], None]) -> None:
    """body(first element, valid elements) over a row."""
    full, rest = divmod(length, step)
    if full:
        with T.serial(0, full) as v:
            body(tir.bind(v * step), step)
    if rest:
        body(tir.const(full * step), rest)
