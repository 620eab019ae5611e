"""TIR of softmax.py: maximum, powers and their sum, one reciprocal a row. Imports tvm.

Rows are walked a register at a time, the last one partly filled: what lies behind a row is read (every buffer has
slack) but neither counted nor stored. v goes to scratch as u16; 8-bit outputs are finished in 16-bit lanes, see
`_scale16`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_RANGE, TVM_DTYPE
from edgeq.compiler.kernels.epilogue import isa_of
from edgeq.compiler.kernels.epilogue_emit import store_lanes
from edgeq.compiler.kernels.softmax import ROWS, SoftmaxSpec
from edgeq.compiler.kernels.softmax_power import power, rounded, u32
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target
from edgeq.integer.exp2 import FRACTION_BITS

_BYTE_BITS = 12  # of the output, at most, where 16-bit lanes do


def _type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


@dataclass(frozen=True)
class _Row:
    """One row of the input: where it starts, and how it is walked."""

    spec: SoftmaxSpec
    isa: Isa
    buffers: dict[str, Expr]
    x: Expr
    mask: Expr | None

    @property
    def lanes(self) -> int:
        """s32 lanes of a step."""
        return self.isa.lanes if self.spec.vectorised else 1

    def element(self, start: Expr) -> Expr:
        """s32 lanes."""
        value = tir.vload(self.buffers["x"], self.x + start * self.spec.x_step, self.lanes)
        return tir.cast(_type("int32", self.lanes), value)

    def taking_part(self, start: Expr, valid: int, value: Expr, other: Expr) -> Expr:
        """`value` in lanes of the row that the mask lets through, `other` elsewhere."""
        mask, lanes = self.spec.mask, self.lanes
        if mask is not None and self.mask is not None:
            if lanes > 1 and mask.step == 1:
                seen = tir.cast(f"int32x{lanes}", tir.vload(self.buffers["mask"], self.mask + start, lanes))
            else:
                seen = tir.cast("int32", tir.load(self.buffers["mask"], self.mask + start * mask.step))
                seen = tir.broadcast(tir.bind(seen), lanes)
            value = tir.tirx.Select(seen != tir.broadcast(tir.const(mask.zero), lanes), value, other)
        if valid < lanes:
            inside = tir.tirx.Ramp(tir.const(0), tir.const(1), lanes) < tir.broadcast(tir.const(valid), lanes)
            value = tir.tirx.Select(inside, value, other)
        return value


def _walk(spec: SoftmaxSpec, lanes: int, body: Callable[[Expr, int], None]) -> None:
    """body(first element, valid lanes) over a row."""
    full, rest = divmod(spec.length, lanes)
    if full:
        with T.serial(0, full) as v:
            body(tir.bind(v * lanes), lanes)
    if rest:
        body(tir.const(full * lanes), rest)


def softmax(spec: SoftmaxSpec, target: Target) -> Expr:
    """The PrimFunc of a softmax."""
    nest, pitch, isa = spec.nest, spec.row_elements(target), isa_of(target)
    x_row, *mask_row, y_row = (s[-1] for s in nest.strides)
    parameters = _parameters(spec, target)
    sums = ROWS * pitch  # in scratch behind the rows: two words for each sum
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, pointers):
        buffers = dict(zip([p[0] for p in parameters], pointers, strict=True))
        scratch = buffers["scratch"]

        def one(offsets: Sequence[Expr], first: Expr) -> None:
            count = loops.block_rows(nest.inner, ROWS, first)
            with T.serial(0, count) as r:
                mask = tir.bind(offsets[1] + r * mask_row[0]) if spec.mask else None
                row = _Row(spec, isa, buffers, tir.bind(offsets[0] + r * x_row), mask)
                total = _powers(row, _maximum(row), scratch, tir.bind(r * pitch))
                tir.vstore(scratch, sums + 2 * r, tir.reinterpret("uint16x2", total), 2)
            with T.serial(0, count) as r:
                scale = _reciprocal(spec, tir.bind(tir.reinterpret("uint32", tir.vload(scratch, sums + 2 * r, 2))))
                _store(spec, isa, buffers, tir.bind(r * pitch), scale, tir.bind(offsets[-1] + r * y_row))

        loops.each_block(spec.blocks, spec.split(), t0, t1, one)
    return out[0]


def _parameters(spec: SoftmaxSpec, target: Target) -> list[tuple[str, str, int]]:
    steps = [spec.x_step, *([spec.mask.step] if spec.mask else []), spec.y_step]
    reach = [spec.nest.extent(k) + (spec.length - 1) * step for k, step in enumerate(steps)]
    mask = [("mask", spec.mask.dtype, reach[1])] if spec.mask else []
    scratch = ("scratch", "uint16", spec.scratch_bytes(target) // 2)
    return [("x", spec.x_dtype, reach[0]), *mask, scratch, ("y", spec.dtype, reach[-1])]


def _folded(state: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a register in one number."""
    value = tir.load(state, 0) if lanes == 1 else tir.vload(state, 0, lanes)
    while lanes > 1:
        value, lanes = tir.bind(value), lanes // 2
        low, high = (tir.shuffle([value], range(at, at + lanes)) for at in (0, lanes))
        value = combine(low, high)
    return tir.bind(value)


def _maximum(row: _Row) -> Expr:
    """The row's largest element that takes part, s32."""
    lanes = row.lanes
    state = tir.alloc(lanes, "int32")
    least = tir.broadcast(tir.const(DTYPE_RANGE["s32"][0]), lanes)
    tir.vstore(state, 0, least, lanes)

    def body(start: Expr, valid: int) -> None:
        value = row.taking_part(start, valid, row.element(start), least)
        tir.vstore(state, 0, tir.tirx.max(tir.vload(state, 0, lanes), value), lanes)

    _walk(row.spec, lanes, body)
    return _folded(state, lanes, tir.tirx.max)


def _powers(row: _Row, largest: Expr, scratch: Expr, place: Expr) -> Expr:
    """Writes v of every element to the scratch row; the sum of e, u32."""
    constants, lanes = row.spec.constants, row.lanes
    state = tir.alloc(lanes, "uint32")
    tir.vstore(state, 0, u32(0, lanes), lanes)
    unsigned, half = _type("uint32", lanes), _type("uint16", lanes)
    top = tir.bind(tir.broadcast(tir.reinterpret("uint32", largest), lanes))

    def body(start: Expr, valid: int) -> None:
        # Modulo 2^32 the difference is exact for every pair of s32.
        e = power(constants, row.isa, top - tir.reinterpret(unsigned, row.element(start)), lanes)
        e = tir.bind(row.taking_part(start, valid, e, u32(0, lanes)))
        tir.vstore(scratch, place + start, tir.cast(half, rounded(e, constants.sum_bits - FRACTION_BITS, lanes)), lanes)
        tir.vstore(state, 0, tir.vload(state, 0, lanes) + e, lanes)

    _walk(row.spec, lanes, body)
    return _folded(state, lanes, lambda a, b: a + b)


def _reciprocal(spec: SoftmaxSpec, total: Expr) -> tuple[Expr, Expr]:
    """(r, s): y = rshift(v · r, s), both u32."""
    one = tir.const(1, "uint32")
    if spec.mask is not None:
        total = tir.bind(tir.tirx.max(total, tir.const(2**15, "uint32")))
    leading = tir.cast("uint32", _op.clz(tir.reinterpret("int32", total)))
    z = tir.bind(tir.const(16, "uint32") - leading)
    half = _op.shift_right(_op.shift_left(one, z), one)
    m = tir.bind(_op.shift_right(total + half, z))
    r = _op.truncdiv(tir.const(2**30, "uint32"), m)
    s = tir.bind(z + tir.const(45 - spec.constants.sum_bits - spec.constants.out_bits, "uint32"))
    most = tir.const(31, "uint32")
    excess = tir.tirx.max(s, most) - most
    return tir.bind(_op.shift_right(r, excess)), tir.bind(tir.tirx.min(s, most))


def _store(
    spec: SoftmaxSpec, isa: Isa, buffers: dict[str, Expr], place: Expr, scale: tuple[Expr, Expr], base: Expr
) -> None:
    """clamp(zero point + rshift(v · r, s)) of every element."""
    y = buffers["y"]
    wide = spec.constants.out_bits <= _BYTE_BITS and spec.dtype != "s16" and spec.vectorised
    lanes = (2 if wide else 1) * isa.lanes if spec.vectorised else 1
    number = "int16" if wide else "int32"
    scaled = _scale16(scale, lanes) if wide else _scale32(scale, lanes)

    def constant(value: int) -> Expr:
        return tir.broadcast(tir.const(value, number), lanes)

    def body(start: Expr, valid: int) -> None:
        # In 16 bits the value is at most 2^12 and the zero point a byte.
        value = tir.reinterpret(_type(number, lanes), scaled(tir.vload(buffers["scratch"], place + start, lanes)))
        moved = value + constant(spec.zero_point)
        clamped = tir.tirx.max(tir.tirx.min(moved, constant(spec.high)), constant(spec.low))
        stored = tir.cast(_type(TVM_DTYPE[spec.dtype], lanes), clamped)
        if lanes == 1:
            tir.store(y, base + start * spec.y_step, stored)
        else:
            store_lanes(y, base + start, stored, valid)

    _walk(spec, lanes, body)


def _scale32(scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    one = tir.const(1, "uint32")
    half = _op.shift_right(_op.shift_left(one, scale[1]), one)
    r, rounding, s = (tir.bind(tir.broadcast(value, lanes)) for value in (scale[0], half, scale[1]))
    return lambda v: _op.shift_right(tir.cast(_type("uint32", lanes), v) * r + rounding, s)


def _scale16(scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    """The same in u16 lanes: s >= 17, so the rounding constant and the shift lie in the product's upper half.

    The largest element has e >= 2^(sum_bits − 1), hence z >= sum_bits − 16 and s >= 29 − out_bits. Only a row that is
    masked away has a smaller s; there v is 0, and 17 does as well.
    """
    one = tir.const(1, "uint32")
    s = tir.bind(tir.tirx.max(scale[1], tir.const(17, "uint32")) - tir.const(16, "uint32"))
    half = _op.shift_right(_op.shift_left(one, s), one)
    r, rounding, count = (tir.hold(tir.broadcast(tir.cast("uint16", value), lanes)) for value in (scale[0], half, s))
    wide = f"uint32x{lanes}"

    def scaled(v: Expr) -> Expr:
        product = _op.shift_right(tir.cast(wide, v) * tir.cast(wide, r), u32(16, lanes))
        return _op.shift_right(tir.cast(f"uint16x{lanes}", product) + rounding, count)

    return scaled
