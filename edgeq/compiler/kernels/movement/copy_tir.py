"""TIR of copy.py: byte rows, shuffled planes, transposed tiles. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_BYTES
from edgeq.compiler.kernels.movement.copy import CopySpec, FillSpec, GatherSpec
from edgeq.compiler.kernels.nest import Nest, Split
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target

UNSIGNED = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}
TILE_BYTES = 16  # a transposed tile is one 128-bit register wide: shuffles stay inside a lane on every CPU
ZIP_LANES = 16


class _Mover:
    """Loads and stores of one copy, with the sign bit's flip in between."""

    def __init__(self, x: Expr, y: Expr, flip: bool) -> None:
        self.x, self.y, self.flip = x, y, flip

    def changed(self, value: Expr, lanes: int) -> Expr:
        if not self.flip:
            return value
        return tir.bind(value ^ tir.broadcast(tir.const(0x80, "uint8"), lanes))

    def load(self, index: Expr, lanes: int) -> Expr:
        return self.changed(tir.vload(self.x, index, lanes), lanes)


def copy(spec: CopySpec, target: Target) -> Expr:
    """The PrimFunc of a strided copy."""
    walk, nest = spec.plan()
    split = spec.split()
    dtype = "uint8" if walk == "rows" else UNSIGNED[spec.element_bytes]
    sizes = [max(1, nest.extent(k)) for k in (0, 1)]
    with tir.kernel(spec.symbol(target), [("x", dtype, sizes[0]), ("y", dtype, sizes[1])]) as (out, t0, t1, (x, y)):
        mover = _Mover(x, y, spec.flip_sign_bit)
        if walk == "rows":
            _rows(mover, nest, split, t0, t1, target.vector_bytes)
        elif walk == "elements":
            loops.sweep_scalar(nest, split, t0, t1, lambda o: tir.store(y, o[1], mover.changed(tir.load(x, o[0]), 1)))
        else:
            {"zip": _zip, "unzip": _unzip, "tiles": _tiles}[walk](mover, nest, split, t0, t1, spec.element_bytes)
    return out[0]


def _rows(mover: _Mover, nest: Nest, split: Split, t0: Expr, t1: Expr, vector_bytes: int) -> None:
    def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
        start = 0
        while start < valid:  # loads as narrow as the stores: a short row costs no shuffles
            piece = 1 << ((valid - start).bit_length() - 1)
            tir.vstore(mover.y, offsets[1] + start, mover.load(offsets[0] + start, piece), piece)
            start += piece

    loops.sweep(nest, split, t0, t1, vector_bytes, emit)


def _pieces(length: int, lanes: int, split: Split, block: Expr) -> tuple[Expr, Expr]:
    """First and last + 1 vector of a block, where the last vector of a row is moved back to end with the row."""
    count = -(-length // lanes)
    share = -(-count // split.blocks)
    return block * share, tir.tirx.min(block * share + share, tir.const(count))


def _start(vector: Expr, length: int, lanes: int) -> Expr:
    """Where a vector starts; the last one overlaps its neighbour instead of passing the row's end."""
    return tir.bind(tir.tirx.min(vector * lanes, tir.const(length - lanes)))


def _zip(mover: _Mover, nest: Nest, split: Split, t0: Expr, t1: Expr, width: int) -> None:
    """A few planes (source contiguous along columns) to dense pixels."""
    (columns, planes), plane_stride = nest.shape[-2:], nest.strides[0][-1]
    order = [p * ZIP_LANES + i for i in range(ZIP_LANES) for p in range(planes)]

    def row(offsets: list[Expr], block: Expr) -> None:
        with loops.span(*_pieces(columns, ZIP_LANES, split, block)) as v:
            start = _start(v, columns, ZIP_LANES)
            parts = [mover.load(offsets[0] + start + p * plane_stride, ZIP_LANES) for p in range(planes)]
            for k in range(planes):
                piece = tir.shuffle(parts, order[k * ZIP_LANES : (k + 1) * ZIP_LANES])
                tir.vstore(mover.y, offsets[1] + start * planes + k * ZIP_LANES, piece, ZIP_LANES)

    loops.each_row(nest, split, t0, t1, row, inner=2)


def _unzip(mover: _Mover, nest: Nest, split: Split, t0: Expr, t1: Expr, width: int) -> None:
    """Dense pixels to a few planes (destination contiguous along rows)."""
    (planes, pixels), plane_stride = nest.shape[-2:], nest.strides[1][-2]

    def row(offsets: list[Expr], block: Expr) -> None:
        with loops.span(*_pieces(pixels, ZIP_LANES, split, block)) as v:
            start = _start(v, pixels, ZIP_LANES)
            first = offsets[0] + start * planes
            parts = [mover.load(first + k * ZIP_LANES, ZIP_LANES) for k in range(planes)]
            for p in range(planes):
                piece = tir.shuffle(parts, [i * planes + p for i in range(ZIP_LANES)])
                tir.vstore(mover.y, offsets[1] + start + p * plane_stride, piece, ZIP_LANES)

    loops.each_row(nest, split, t0, t1, row, inner=2)


def _transposed(rows: list[Expr], size: int) -> list[Expr]:
    """A size × size tile turned over by log2(size) rounds of interleaving row k with row k + size/2."""
    half = size // 2
    low = [lane // 2 + size * (lane % 2) for lane in range(size)]
    high = [half + lane for lane in low]
    for _ in range(size.bit_length() - 1):
        rows = [tir.bind(tir.shuffle([rows[k], rows[k + half]], lanes)) for k in range(half) for lanes in (low, high)]
    return rows


def _tiles(mover: _Mover, nest: Nest, split: Split, t0: Expr, t1: Expr, width: int) -> None:
    """General 2-D transpose: tiles of 16 bytes squared (in elements), the last of a row or column moved back to fit."""
    size = TILE_BYTES // width
    (columns, rows), src_row, dst_row = nest.shape[-2:], nest.strides[0][-1], nest.strides[1][-2]
    wide, high = min(size, columns), min(size, rows)

    def tile(source: Expr, sink: Expr) -> None:
        lines = [mover.load(source + min(k, high - 1) * src_row, size) for k in range(size)]
        for k, line in enumerate(_transposed(lines, size)[:wide]):
            loops.store_valid(mover.y, sink + k * dst_row, line, size, high)

    def row(offsets: list[Expr], block: Expr) -> None:
        with loops.span(*_pieces(columns, size, split, block)) as cv:
            c = _start(cv, columns, wide)
            with T.serial(0, -(-rows // size)) as rv:
                r = _start(rv, rows, high)
                tile(tir.bind(offsets[0] + c + r * src_row), tir.bind(offsets[1] + c * dst_row + r))

    loops.each_row(nest, split, t0, t1, row, inner=2)


def fill(spec: FillSpec, target: Target) -> Expr:
    """The PrimFunc of a constant fill."""
    width = DTYPE_BYTES[spec.dtype]
    dtype = UNSIGNED[width]
    constant = tir.const(spec.value & ((1 << 8 * width) - 1), dtype)
    nests = [(offset, Nest.of(shape, strides)) for offset, shape, strides in spec.boxes]
    elements = max(offset + nest.extent(0) for offset, nest in nests)
    whole = Split(0, 1, 1)
    with tir.kernel(spec.symbol(target), [("y", dtype, elements)]) as (out, t0, t1, (y,)):

        def write(start: Expr, valid: int) -> None:
            done = 0
            while done < valid:
                piece = 1 << ((valid - done).bit_length() - 1)
                tir.vstore(y, start + done, tir.broadcast(constant, piece), piece)
                done += piece

        for offset, nest in nests:
            base = tir.const(offset)

            def emit(offsets: Sequence[Expr], lanes: int = 1, valid: int = 1, base: Expr = base) -> None:
                write(base + offsets[0], valid)

            if nest.inner_strides == (1,):
                loops.sweep(nest, whole, t0, t1, target.vector_bytes // width, emit)
            else:
                loops.sweep_scalar(nest, whole, t0, t1, emit)
    return out[0]


def gather(spec: GatherSpec, target: Target) -> Expr:
    """The PrimFunc of a gather: one task a row."""
    width = spec.element_bytes
    source = (spec.outer - 1) * spec.src_outer + (spec.source_rows - 1) * spec.src_row + spec.inner
    sink = (spec.outer - 1) * spec.dst_outer + (spec.rows - 1) * spec.dst_row + spec.inner
    parameters = [("x", "uint8", source * width), ("index", "s32", spec.rows), ("y", "uint8", sink * width)]
    nest = Nest((spec.inner * width,), ((1,), (1,)))
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, index, y)), loops.span(t0, t1) as task:
        o, r = tir.bind(loops.divide(task, spec.rows)), tir.bind(loops.remainder(task, spec.rows))
        start = tir.bind((o * spec.src_outer + tir.load(index, r) * spec.src_row) * width)
        end = tir.bind((o * spec.dst_outer + r * spec.dst_row) * width)
        lanes = loops.lanes_for(nest.inner, target.vector_bytes)
        full, tail = divmod(nest.inner, lanes)
        if full:
            with T.serial(0, full) as v:
                tir.vstore(y, end + v * lanes, tir.vload(x, start + v * lanes, lanes), lanes)
        done = full * lanes
        while tail:
            piece = 1 << (tail.bit_length() - 1)
            tir.vstore(y, end + done, tir.vload(x, start + done, piece), piece)
            done, tail = done + piece, tail - piece
    return out[0]
