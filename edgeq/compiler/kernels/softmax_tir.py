"""TIR of softmax.py: maximum, powers and their sum, one reciprocal a row. Imports tvm.

Rows are walked a register at a time, the last one partly filled: what lies behind a row is read (every buffer has slack)
but neither counted nor stored. v goes to scratch as u16; 8-bit outputs are finished in 16-bit lanes, see `_scale16`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa, lanes_of
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.epilogue import isa_of
from edgeq.compiler.kernels.epilogue_emit import store_lanes
from edgeq.compiler.kernels.softmax import ROWS, SoftmaxSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target
from edgeq.integer.exp2 import FRACTION_BITS, LINEAR, QUADRATIC, T_MAX


def _u32(value: int, lanes: int) -> Expr:
    return tir.broadcast(tir.const(value, "uint32"), lanes)


def _type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _rounded(value: Expr, shift: int, lanes: int) -> Expr:
    """rshift of unsigned lanes."""
    if shift == 0:
        return value
    return _op.shift_right(value + _u32(1 << (shift - 1), lanes), _u32(shift, lanes))


def power(spec: SoftmaxSpec, isa: Isa, distance: Expr, lanes: int) -> Expr:
    """e of exp2.py: 2^−t in Q(sum_bits), from the distance to the row's maximum (u32)."""
    a = _rounded(tir.tirx.min(distance, _u32(spec.limit, lanes)), spec.pre_shift, lanes)
    t = _rounded(a * _u32(spec.multiplier, lanes), spec.shift, lanes)
    widest = (spec.limit + ((1 << spec.pre_shift) >> 1)) >> spec.pre_shift
    if (widest * spec.multiplier + ((1 << spec.shift) >> 1)) >> spec.shift > T_MAX:
        t = tir.tirx.min(t, _u32(T_MAX, lanes))
    t = tir.bind(t)
    octaves = _op.shift_right(t, _u32(FRACTION_BITS, lanes))
    f = tir.bind(t & _u32((1 << FRACTION_BITS) - 1, lanes))
    bend = _u32(LINEAR, lanes) - isa.product_q15(_u32(QUADRATIC, lanes), f, rounded=False)
    g = _u32(1 << FRACTION_BITS, lanes) - isa.product_q15(f, bend, rounded=True)
    # One bit more, so that rounding after the shift is the same for every number of octaves, 0 included.
    doubled = _op.shift_left(g, _u32(spec.sum_bits - FRACTION_BITS + 1, lanes))
    return tir.bind(_rounded(_op.shift_right(doubled, octaves), 1, lanes))


@dataclass(frozen=True)
class _Row:
    """How a row is walked: registers where both sides are contiguous, else single elements."""

    spec: SoftmaxSpec
    isa: Isa

    @property
    def lanes(self) -> int:
        """s32 lanes of a step."""
        return self.isa.lanes if (self.spec.x_step, self.spec.y_step) == (1, 1) and self.spec.length > 1 else 1

    def loop(self, lanes: int, body: Callable[[Expr, int], None]) -> None:
        """body(first element, valid lanes) over the row."""
        full, rest = divmod(self.spec.length, lanes)
        if full:
            with T.serial(0, full) as v:
                body(tir.bind(v * lanes), lanes)
        if rest:
            body(tir.const(full * lanes), rest)

    def inside(self, valid: int, value: Expr, other: Expr) -> Expr:
        """`value` in the first `valid` lanes, `other` behind."""
        lanes = lanes_of(value)
        if valid >= lanes:
            return value
        return tir.tirx.Select(tir.tirx.Ramp(tir.const(0), tir.const(1), lanes) < tir.broadcast(tir.const(valid), lanes),
                               value, other)  # fmt: skip


def softmax(spec: SoftmaxSpec, target: Target) -> Expr:
    """The PrimFunc of a softmax."""
    nest, pitch = spec.nest, spec.row_elements(target)
    reach = [nest.extent(k) + (spec.length - 1) * step for k, step in enumerate((spec.x_step, spec.y_step))]
    parameters = [("x", spec.x_dtype, reach[0]), ("scratch", "uint16", spec.scratch_bytes(target) // 2), ("y", spec.dtype, reach[1])]
    sums = ROWS * pitch  # behind the rows: two words for each sum
    row, (x_row, y_row) = _Row(spec, isa_of(target)), (s[-1] for s in nest.strides)
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, scratch, y)):

        def one(offsets: Sequence[Expr], first: Expr) -> None:
            count = loops.block_rows(nest.inner, ROWS, first)
            with T.serial(0, count) as r:
                base = tir.bind(offsets[0] + r * x_row)
                largest = _maximum(row, x, base)
                total = _powers(row, x, base, largest, scratch, tir.bind(r * pitch))
                tir.vstore(scratch, sums + 2 * r, tir.reinterpret("uint16x2", total), 2)
            with T.serial(0, count) as r:
                scale = _reciprocal(spec, tir.bind(tir.reinterpret("uint32", tir.vload(scratch, sums + 2 * r, 2))))
                _store(row, scratch, tir.bind(r * pitch), scale, y, tir.bind(offsets[1] + r * y_row))

        loops.each_block(spec.blocks, spec.split(), t0, t1, one)
    return out[0]


def _element(spec: SoftmaxSpec, x: Expr, base: Expr, start: Expr, lanes: int) -> Expr:
    """s32 lanes of the row."""
    return tir.cast(_type("int32", lanes), tir.vload(x, base + start * spec.x_step, lanes))


def _folded(state: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a register in one number."""
    value = tir.load(state, 0) if lanes == 1 else tir.vload(state, 0, lanes)
    while lanes > 1:
        value, lanes = tir.bind(value), lanes // 2
        low, high = (tir.shuffle([value], range(at, at + lanes)) for at in (0, lanes))
        value = combine(low, high)
    return tir.bind(value)


def _maximum(row: _Row, x: Expr, base: Expr) -> Expr:
    """The row's largest element, s32."""
    spec, lanes = row.spec, row.lanes
    state = tir.alloc(lanes, "int32")
    first = tir.bind(tir.broadcast(tir.cast("int32", tir.load(x, base)), lanes))
    tir.vstore(state, 0, first, lanes)

    def body(start: Expr, valid: int) -> None:
        value = _element(spec, x, base, start, lanes)
        if valid < lanes:
            value = row.inside(valid, value, first)
        tir.vstore(state, 0, tir.tirx.max(tir.vload(state, 0, lanes), value), lanes)

    row.loop(lanes, body)
    return _folded(state, lanes, tir.tirx.max)


def _powers(row: _Row, x: Expr, base: Expr, largest: Expr, scratch: Expr, place: Expr) -> Expr:
    """Writes v of every element to the scratch row; the sum of e, u32."""
    spec, lanes = row.spec, row.lanes
    state = tir.alloc(lanes, "uint32")
    tir.vstore(state, 0, _u32(0, lanes), lanes)
    spare = spec.sum_bits - FRACTION_BITS
    unsigned, half = _type("uint32", lanes), _type("uint16", lanes)
    top = tir.bind(tir.broadcast(tir.reinterpret("uint32", largest), lanes))

    def body(start: Expr, valid: int) -> None:
        # Modulo 2^32 the difference is exact for every pair of s32.
        distance = top - tir.reinterpret(unsigned, _element(spec, x, base, start, lanes))
        e = power(spec, row.isa, distance, lanes)
        tir.vstore(scratch, place + start, tir.cast(half, _rounded(e, spare, lanes)), lanes)
        counted = row.inside(valid, e, _u32(0, lanes)) if valid < lanes else e
        tir.vstore(state, 0, tir.vload(state, 0, lanes) + counted, lanes)

    row.loop(lanes, body)
    return _folded(state, lanes, lambda a, b: a + b)


def _reciprocal(spec: SoftmaxSpec, total: Expr) -> tuple[Expr, Expr]:
    """(r, s): y = rshift(v · r, s), both u32."""
    one = tir.const(1, "uint32")
    leading = tir.cast("uint32", _op.clz(tir.reinterpret("int32", total)))
    z = tir.bind(tir.const(16, "uint32") - leading)
    half = _op.shift_right(_op.shift_left(one, z), one)
    m = tir.bind(_op.shift_right(total + half, z))
    r = _op.truncdiv(tir.const(2**30, "uint32"), m)
    s = tir.bind(z + tir.const(45 - spec.sum_bits - spec.out_bits, "uint32"))
    most = tir.const(31, "uint32")
    excess = tir.tirx.max(s, most) - most
    return tir.bind(_op.shift_right(r, excess)), tir.bind(tir.tirx.min(s, most))


def _store(row: _Row, scratch: Expr, place: Expr, scale: tuple[Expr, Expr], y: Expr, base: Expr) -> None:
    """clamp(zero point + rshift(v · r, s)) of every element."""
    spec = row.spec
    wide = spec.out_bits <= 13 and row.lanes > 1
    lanes = 2 * row.lanes if wide else row.lanes
    number = "int16" if wide else "int32"
    scaled = _scale16(scale, lanes) if wide else _scale32(scale, lanes)

    def constant(value: int) -> Expr:
        return tir.broadcast(tir.const(value, number), lanes)

    def body(start: Expr, valid: int) -> None:
        # In 16 bits the value is at most 2^13 and the zero point a byte's.
        moved = tir.reinterpret(_type(number, lanes), scaled(tir.vload(scratch, place + start, lanes))) + constant(spec.zero_point)
        clamped = tir.tirx.max(tir.tirx.min(moved, constant(spec.high)), constant(spec.low))
        stored = tir.cast(_type(TVM_DTYPE[spec.dtype], lanes), clamped)
        if lanes == 1:
            tir.store(y, base + start * spec.y_step, stored)
        else:
            store_lanes(y, base + start, stored, valid)

    row.loop(lanes, body)


def _scale32(scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    one = tir.const(1, "uint32")
    half = _op.shift_right(_op.shift_left(one, scale[1]), one)
    r, rounding, s = (tir.bind(tir.broadcast(value, lanes)) for value in (scale[0], half, scale[1]))
    return lambda v: _op.shift_right(tir.cast(_type("uint32", lanes), v) * r + rounding, s)


def _scale16(scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    """The same in u16 lanes: s >= 17, so the rounding constant and the shift lie in the product's upper half.

    S >= 2^sum_bits, hence z >= sum_bits − 15 and s >= 30 − out_bits.
    """
    one = tir.const(1, "uint32")
    s = tir.bind(scale[1] - tir.const(16, "uint32"))
    half = _op.shift_right(_op.shift_left(one, s), one)
    r, rounding, count = (
        tir.hold(tir.broadcast(tir.cast("uint16", value), lanes)) for value in (scale[0], half, s)
    )
    wide = f"uint32x{lanes}"

    def scaled(v: Expr) -> Expr:
        product = _op.shift_right(tir.cast(wide, v) * tir.cast(wide, r), _u32(16, lanes))
        return _op.shift_right(tir.cast(f"uint16x{lanes}", product) + rounding, count)

    return scaled
