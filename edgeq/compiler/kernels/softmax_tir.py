"""TIR of softmax.py: maximum, powers and their sum, one reciprocal a row; unsigned 32 bits throughout. Imports tvm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.tirx import op as _op

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.epilogue import isa_of
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.softmax import SoftmaxSpec
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


def power(spec: SoftmaxSpec, distance: Expr, lanes: int) -> Expr:
    """e of exp2.py: 2^−t in Q(sum_bits), from the distance to the row's maximum (u32)."""
    a = _rounded(tir.tirx.min(distance, _u32(spec.limit, lanes)), spec.pre_shift, lanes)
    t = tir.bind(tir.tirx.min(_rounded(a * _u32(spec.multiplier, lanes), spec.shift, lanes), _u32(T_MAX, lanes)))
    octaves = tir.bind(_op.shift_right(t, _u32(FRACTION_BITS, lanes)))
    f = tir.bind(t & _u32((1 << FRACTION_BITS) - 1, lanes))
    bend = _u32(LINEAR, lanes) - _op.shift_right(f * _u32(QUADRATIC, lanes), _u32(FRACTION_BITS, lanes))
    g = _u32(1 << FRACTION_BITS, lanes) - _rounded(f * bend, FRACTION_BITS, lanes)
    scaled = _op.shift_left(g, _u32(spec.sum_bits - FRACTION_BITS, lanes))
    half = _op.shift_right(_op.shift_left(_u32(1, lanes), octaves), _u32(1, lanes))
    return tir.bind(_op.shift_right(scaled + half, octaves))


class _Row:
    """One row's loops: vectors where both sides are contiguous, else single elements."""

    def __init__(self, spec: SoftmaxSpec, lanes: int) -> None:
        self.spec = spec
        self.lanes = lanes if (spec.x_step, spec.y_step) == (1, 1) and spec.length >= lanes else 1
        self.full = spec.length // self.lanes

    def loop(self, body: Callable[[Expr, int], None]) -> None:
        """body(first element, lanes) over the row."""
        with T.serial(0, self.full) as v:
            body(tir.bind(v * self.lanes), self.lanes)
        if self.full * self.lanes < self.spec.length:
            with loops.span(self.full * self.lanes, self.spec.length) as i:
                body(i, 1)


def softmax(spec: SoftmaxSpec, target: Target) -> Expr:
    """The PrimFunc of a softmax."""
    nest = spec.nest
    rows = Nest((*nest.shape, 1), tuple((*s, 0) for s in nest.strides))
    reach = [nest.extent(k) + (spec.length - 1) * step for k, step in enumerate((spec.x_step, spec.y_step))]
    parameters = [("x", spec.x_dtype, reach[0]), ("scratch", "uint32", spec.length), ("y", spec.dtype, reach[1])]
    row = _Row(spec, isa_of(target).lanes)
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, scratch, y)):

        def one(offsets: Sequence[Expr], block: Expr) -> None:
            largest = _maximum(spec, row, x, offsets[0])
            total = _powers(spec, row, x, offsets[0], largest, scratch)
            reciprocal, shift = _reciprocal(spec, total)
            _store(spec, row, scratch, (reciprocal, shift), y, offsets[1])

        loops.each_row(rows, spec.split(), t0, t1, one)
    return out[0]


def _element(spec: SoftmaxSpec, x: Expr, base: Expr, start: Expr, lanes: int) -> Expr:
    """s32 lanes of the row."""
    return tir.cast(_type("int32", lanes), tir.vload(x, base + start * spec.x_step, lanes))


def _folded(state: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    rest = [tir.bind(tir.load(state, lane)) for lane in range(lanes)]
    while len(rest) > 1:
        rest = [tir.bind(combine(a, b)) for a, b in zip(rest[::2], rest[1::2], strict=True)]
    return rest[0]


def _maximum(spec: SoftmaxSpec, row: _Row, x: Expr, base: Expr) -> Expr:
    """The row's largest element, s32."""
    state = tir.alloc(row.lanes, "int32")
    tir.vstore(state, 0, _element(spec, x, base, tir.const(0), row.lanes), row.lanes)

    def body(start: Expr, lanes: int) -> None:
        tir.vstore(state, 0, tir.tirx.max(tir.vload(state, 0, lanes), _element(spec, x, base, start, lanes)), lanes)

    row.loop(body)
    return _folded(state, row.lanes, tir.tirx.max)


def _powers(spec: SoftmaxSpec, row: _Row, x: Expr, base: Expr, largest: Expr, scratch: Expr) -> Expr:
    """Writes v of every element to the scratch row; the sum of e, u32."""
    state = tir.alloc(row.lanes, "uint32")
    tir.vstore(state, 0, _u32(0, row.lanes), row.lanes)
    spare = spec.sum_bits - FRACTION_BITS

    def body(start: Expr, lanes: int) -> None:
        unsigned = _type("uint32", lanes)
        top = tir.broadcast(tir.reinterpret("uint32", largest), lanes)
        # Modulo 2^32 the difference is exact for every pair of s32.
        distance = top - tir.reinterpret(unsigned, _element(spec, x, base, start, lanes))
        e = power(spec, distance, lanes)
        tir.vstore(state, 0, tir.vload(state, 0, lanes) + e, lanes)
        tir.vstore(scratch, start, _rounded(e, spare, lanes), lanes)

    row.loop(body)
    return _folded(state, row.lanes, lambda a, b: a + b)


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


def _store(spec: SoftmaxSpec, row: _Row, scratch: Expr, scale: tuple[Expr, Expr], y: Expr, base: Expr) -> None:
    """clamp(zero point + rshift(v · r, s)) of every element."""
    one = tir.const(1, "uint32")
    half = tir.bind(_op.shift_right(_op.shift_left(one, scale[1]), one))

    def body(start: Expr, lanes: int) -> None:
        r, rounding, s = (tir.broadcast(value, lanes) for value in (scale[0], half, scale[1]))
        value = _op.shift_right(tir.vload(scratch, start, lanes) * r + rounding, s)

        def constant(number: int) -> Expr:
            return tir.broadcast(tir.const(number), lanes)

        moved = tir.reinterpret(_type("int32", lanes), value) + constant(spec.zero_point)
        clamped = tir.tirx.max(tir.tirx.min(moved, constant(spec.high)), constant(spec.low))
        tir.vstore(y, base + start * spec.y_step, tir.cast(_type(TVM_DTYPE[spec.dtype], lanes), clamped), lanes)

    row.loop(body)
