"""TIR of softmax.py: maximum, powers and their sum, one reciprocal a row. Imports tvm.

Rows are walked two registers at a time, then one, the last one partly filled: what lies behind a row is read (every
buffer has slack) but neither counted nor stored. v goes to scratch as u16; 8-bit outputs are finished in 16-bit lanes,
see `_scale16`. A mask is spread once into words of scratch: the largest s32 where an element takes part, the smallest
where it doesn't, so that one minimum or one `and` applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_RANGE, TVM_DTYPE
from edgeq.compiler.kernels.epilogue.emit import store_lanes
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.nested import ROWS
from edgeq.compiler.kernels.nonlinear.softmax import Mask, SoftmaxSpec
from edgeq.compiler.kernels.nonlinear.softmax_power import power, reach, rounded, rounding, u32
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target
from edgeq.integer.exp2 import FRACTION_BITS

_BYTE_BITS = 12  # of the output, at most, where 16-bit lanes do


def _type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


@dataclass(frozen=True)
class _Row:
    """One row of the input: where it starts, and how it is walked.

    Attributes:
        x: its first element; words: its mask's first element in scratch, None where all take part.
    """

    spec: SoftmaxSpec
    isa: Isa
    buffers: dict[str, Expr]
    x: Expr
    words: int | None

    @property
    def lanes(self) -> int:
        """s32 lanes of a step."""
        return self.isa.lanes if self.spec.vectorised else 1

    def element(self, start: Expr) -> Expr:
        """s32 lanes."""
        value = tir.vload(self.buffers["x"], self.x + start * self.spec.x_step, self.lanes)
        return tir.cast(_type("int32", self.lanes), value)

    def mask(self, start: Expr) -> Expr:
        """Words of the mask."""
        assert self.words is not None
        words = tir.vload(self.buffers["scratch"], self.words + 2 * start, 2 * self.lanes)
        return tir.reinterpret(_type("int32", self.lanes), words)

    def inside(self, valid: int, value: Expr, other: Expr) -> Expr:
        """`value` in lanes of the row, `other` behind it."""
        if valid == self.lanes:
            return value
        lanes = tir.tirx.Ramp(tir.const(0), tir.const(1), self.lanes)
        return tir.tirx.Select(lanes < tir.broadcast(tir.const(valid), self.lanes), value, other)


def _walk(
    length: int,
    lanes: int,
    body: Callable[[Expr, int], None],
    pair: Callable[[Expr], None] | None = None,
) -> None:
    """body(first element, valid lanes) over a row, or pair(first element) where two bodies fit."""
    done = 0
    if pair is not None and lanes > 1:
        done = length // (2 * lanes)
        if done:
            with T.serial(0, done) as v:
                pair(tir.bind(v * (2 * lanes)))
        done *= 2
    full, rest = divmod(length, lanes)
    if full - done == 1:
        body(tir.const(done * lanes), lanes)
    elif full > done:
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
    words = sums + 2 * ROWS if spec.mask else None
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, pointers):
        buffers = dict(zip([p[0] for p in parameters], pointers, strict=True))
        scratch = buffers["scratch"]

        def one(offsets: Sequence[Expr], first: Expr) -> None:
            count = loops.block_rows(nest.inner, ROWS, first)
            if spec.mask and not mask_row[0]:
                _spread_mask(_Row(spec, isa, buffers, offsets[0], words), spec.mask, offsets[1])

            def row_at(r: Expr) -> _Row:
                row = _Row(spec, isa, buffers, tir.bind(offsets[0] + r * x_row), words)
                if spec.mask and mask_row[0]:
                    _spread_mask(row, spec.mask, tir.bind(offsets[1] + r * mask_row[0]))
                return row

            def note(r: Expr, number: Expr) -> None:
                tir.vstore(scratch, sums + 2 * r, tir.reinterpret("uint16x2", number), 2)

            def noted(r: Expr, dtype: str) -> Expr:
                return tir.bind(tir.reinterpret(dtype, tir.vload(scratch, sums + 2 * r, 2)))

            with T.serial(0, count) as r:
                note(r, _maximum(row_at(r)))
            with T.serial(0, count) as r:
                note(r, _powers(row_at(r), noted(r, "int32"), scratch, tir.bind(r * pitch)))
            with T.serial(0, count) as r:
                scale = _reciprocal(spec, noted(r, "uint32"))
                _store(spec, isa, buffers, tir.bind(r * pitch), scale, tir.bind(offsets[-1] + r * y_row))

        loops.each_block(spec.blocks, spec.split(), t0, t1, one)
    return out[0]


def _spread_mask(row: _Row, mask: Mask, place: Expr) -> None:
    """Writes the row's mask to scratch as words; `place` is its first element."""
    lanes, buffers = row.lanes, row.buffers
    low, high = (tir.broadcast(tir.const(value), lanes) for value in DTYPE_RANGE["s32"])

    def body(start: Expr, valid: int) -> None:
        if lanes > 1 and mask.step == 1:
            seen = tir.cast(f"int32x{lanes}", tir.vload(buffers["mask"], place + start, lanes))
        else:
            one = tir.cast("int32", tir.load(buffers["mask"], place + start * mask.step))
            seen = tir.broadcast(tir.bind(one), lanes)
        words = tir.tirx.Select(seen != tir.broadcast(tir.const(mask.zero), lanes), high, low)
        tir.vstore(buffers["scratch"], row.words + 2 * start, tir.reinterpret(f"uint16x{2 * lanes}", words), 2 * lanes)

    _walk(row.spec.length, lanes, body)


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
        value = row.element(start)
        if row.words is not None:
            value = tir.tirx.min(value, row.mask(start))
        value = row.inside(valid, value, least)
        tir.vstore(state, 0, tir.tirx.max(tir.vload(state, 0, lanes), value), lanes)

    _walk(row.spec.length, lanes, body)
    return _folded(state, lanes, tir.tirx.max)


def _distances(row: _Row, largest: Expr) -> Callable[[Expr, int], Expr]:
    """near(first element, valid lanes): what `power` takes. Modulo 2^32 every difference is exact."""
    constants, lanes, unsigned = row.spec.constants, row.lanes, _type("uint32", row.lanes)
    limit, half = reach(constants), rounding(constants)
    if row.words is not None:  # an element that takes no part may lie above the maximum
        top = tir.bind(tir.broadcast(tir.reinterpret("uint32", largest), lanes))

        def masked(start: Expr, valid: int) -> Expr:
            distance = tir.tirx.min(top - tir.reinterpret(unsigned, row.element(start)), u32(limit, lanes))
            return distance + u32(half, lanes) if half else distance

        return masked
    top = tir.reinterpret("uint32", largest)
    above = _op.bitwise_xor(
        top, tir.const(2**31, "uint32")
    )  # over the smallest s32; a sum, TVM takes for one that fits
    floor = tir.reinterpret("int32", top - tir.tirx.min(above, tir.const(limit, "uint32")))
    lowest = tir.bind(tir.broadcast(floor, lanes))
    raised = tir.bind(tir.broadcast(top + tir.const(half, "uint32"), lanes))

    def near(start: Expr, valid: int) -> Expr:
        value = tir.tirx.max(row.inside(valid, row.element(start), lowest), lowest)
        return raised - tir.reinterpret(unsigned, value)

    return near


def _powers(row: _Row, largest: Expr, scratch: Expr, place: Expr) -> Expr:
    """Writes v of every element to the scratch row; the sum of e, u32."""
    constants, lanes = row.spec.constants, row.lanes
    state = tir.alloc(lanes, "uint32")
    tir.vstore(state, 0, u32(0, lanes), lanes)
    unsigned, half = _type("uint32", lanes), _type("uint16", lanes)
    near = _distances(row, largest)

    def step(start: Expr, valid: int) -> Expr:
        e = power(constants, row.isa, near(start, valid), lanes)
        if row.words is not None:
            e = tir.reinterpret(unsigned, row.mask(start)) & e
        e = tir.bind(row.inside(valid, e, u32(0, lanes)))
        tir.vstore(state, 0, tir.vload(state, 0, lanes) + e, lanes)
        return rounded(e, constants.sum_bits - FRACTION_BITS, lanes)

    def body(start: Expr, valid: int) -> None:
        tir.vstore(scratch, place + start, tir.cast(half, step(start, valid)), lanes)

    def pair(start: Expr) -> None:
        registers = [step(start + k * lanes, lanes) for k in range(2)]
        tir.vstore(scratch, place + start, row.isa.pack_words(*registers), 2 * lanes)

    _walk(row.spec.length, lanes, body, pair)
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
    y, scratch = buffers["y"], buffers["scratch"]
    wide = spec.constants.out_bits <= _BYTE_BITS and spec.dtype != "s16" and spec.vectorised
    number = "int16" if wide else "int32"
    lanes = (2 if wide else 1) * isa.lanes if spec.vectorised else 1
    scaled = _scale16(isa, scale, lanes) if wide else _scale32(scale, lanes)

    def finished(start: Expr) -> Expr:
        # In 16 bits the value is at most 2^12 and the zero point a byte.
        value = tir.reinterpret(_type(number, lanes), scaled(tir.vload(scratch, place + start, lanes)))
        zero, low, high = (tir.broadcast(tir.const(n, number), lanes) for n in (spec.zero_point, spec.low, spec.high))
        value = value + zero if spec.zero_point else value
        least, most = DTYPE_RANGE[spec.dtype] if wide else (None, None)  # these, packing gives for nothing
        value = value if spec.high == most else tir.tirx.min(value, high)
        return tir.bind(value if spec.low == least else tir.tirx.max(value, low))

    def stored(start: Expr) -> Expr:
        value = finished(start)
        return (
            isa.saturate8(value, spec.dtype == "u8") if wide else tir.cast(_type(TVM_DTYPE[spec.dtype], lanes), value)
        )

    def body(start: Expr, valid: int) -> None:
        if lanes == 1:
            tir.store(y, base + start * spec.y_step, stored(start))
        elif valid == lanes or spec.length < lanes:
            store_lanes(y, base + start, stored(start), valid)
        else:  # a whole register that ends with the row; its first lanes are stored a second time
            last = tir.const(spec.length - lanes)
            tir.vstore(y, base + last, stored(last), lanes)

    def pair(start: Expr) -> None:
        low, high = (finished(start + k * lanes) for k in range(2))
        tir.vstore(y, base + start, isa.pack_bytes(low, high, spec.dtype == "u8"), 2 * lanes)

    _walk(spec.length, lanes, body, pair if wide else None)


def _scale32(scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    one = tir.const(1, "uint32")
    half = _op.shift_right(_op.shift_left(one, scale[1]), one)
    r, rounding, s = (tir.bind(tir.broadcast(value, lanes)) for value in (scale[0], half, scale[1]))
    return lambda v: _op.shift_right(tir.cast(_type("uint32", lanes), v) * r + rounding, s)


def _scale16(isa: Isa, scale: tuple[Expr, Expr], lanes: int) -> Callable[[Expr], Expr]:
    """The same in u16 lanes: s >= 17, so the rounding constant and the shift lie in the product's upper half.

    The largest element has e >= 2^(sum_bits − 1), hence z >= sum_bits − 16 and s >= 29 − out_bits. Only a row that is
    masked away has a smaller s; there v is 0, and 17 does as well.
    """
    one = tir.const(1, "uint32")
    s = tir.bind(tir.tirx.max(scale[1], tir.const(17, "uint32")) - tir.const(16, "uint32"))
    half = _op.shift_right(_op.shift_left(one, s), one)
    r, rounding, count = (tir.hold(tir.broadcast(tir.cast("uint16", value), lanes)) for value in (scale[0], half, s))
    return lambda v: _op.shift_right(isa.upper_product(v, r) + rounding, count)
