"""Packs a block of columns of a computed matrix into the layout that inner products read their weights in.

Imports tvm. The layout is [groups of K][registers][units of a group][lanes][unit] (isa/products.py), registers in the
order the epilogue narrows them in. Bytes get the top bit inverted where they are stored as u8; s16 panels hold
b − b_zero_point.
K is padded with zeros, columns behind the last one are left as they are: nobody stores their sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvm.tirx import op as _op

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.tir import Expr, T

if TYPE_CHECKING:
    from edgeq.compiler.kernels.matmul.matmul import MatMulPlan, MatMulSpec

_CHUNK = 4  # neighbouring columns stay neighbouring lanes in every pack order


class PanelPacker:
    """Emits the packing of one block of columns after the other.

    Args:
        b, panel: flat buffers; the panel is s8, or s16 in a plan of words.
        natural: lanes in column order; else in pack order.
    """

    def __init__(self, spec: MatMulSpec, plan: MatMulPlan, isa: Isa, b: Expr, panel: Expr, natural: bool) -> None:
        self.spec, self.plan, self.isa, self.b, self.panel = spec, plan, isa, b, panel
        self.keeps = natural or isa.keeps_order
        product = plan.product
        self.unit, self.lanes = product.unit, product.lanes
        self.parts = product.group // product.unit
        self.element = "int16" if plan.words else "int8"
        bits = (16 if plan.words else 8) * self.unit
        self.word = f"int{bits}"
        self.flip = not plan.words and spec.b_dtype == "u8"

    def pack(self, source: Expr, place: Expr, vectors: int, columns: int) -> None:
        """Packs `columns` columns from element `source` of b on into `vectors` registers, to panel element `place`."""
        if self.spec.along_k:
            self._columns(source, place, vectors, columns)
        else:
            self._rows(source, place, vectors)

    def _at(self, unit: Expr | int, vectors: int) -> Expr:
        """Panel element of register 0, lane 0 of a unit of K, counted from the block's start."""
        row = vectors * self.parts * self.lanes * self.unit
        if self.parts == 1:
            return unit * row
        group, part = loops.divide(tir.i32(unit), self.parts), loops.remainder(tir.i32(unit), self.parts)
        return group * row + part * (self.lanes * self.unit)

    @property
    def _register(self) -> int:
        """Panel elements from one register to the next."""
        return self.parts * self.lanes * self.unit

    # --- b's rows are contiguous: one row of b is one element of every lane -------------------------------------------

    def _rows(self, source: Expr, place: Expr, vectors: int) -> None:
        full, rest = divmod(self.spec.k, self.plan.product.group)
        with T.serial(0, full) as group:
            for part in range(self.parts):
                first = tir.bind(group * (self.parts * self.unit) + part * self.unit)
                self._row_unit(source, first, self.unit, place + self._at(group * self.parts + part, vectors), vectors)
        for part in range(self.parts if rest else 0):
            valid = min(max(rest - part * self.unit, 0), self.unit)
            unit = full * self.parts + part
            self._row_unit(source, tir.const(unit * self.unit), valid, place + self._at(unit, vectors), vectors)

    def _row_unit(self, source: Expr, k: Expr, valid: int, place: Expr, vectors: int) -> None:
        """One unit of every lane: `valid` rows of b from k on, then zeros."""
        done, place = 0, tir.bind(place)
        for size in self.isa.groups(vectors):
            words = [tir.bind(self._interleaved(source, k, valid, (done + r) * self.lanes)) for r in range(size)]
            order = list(range(size * self.lanes)) if self.keeps else self.isa.order(size)
            for r in range(size):
                lanes = order[r * self.lanes : (r + 1) * self.lanes]
                natural = lanes == list(range(r * self.lanes, (r + 1) * self.lanes))
                self._put(place + (done + r) * self._register, words[r] if natural else tir.shuffle(words, lanes))
            done += size

    def _interleaved(self, source: Expr, k: Expr, valid: int, column: int) -> Expr:
        """One register of words: each lane has `valid` elements of its column."""
        lanes = self.lanes
        wide = f"{self.word}x{lanes}"
        if valid == 0:
            return tir.broadcast(tir.const(0, self.word), lanes)
        rows = [tir.vload(self.b, source + (k + j) * self.spec.b_k + column, lanes) for j in range(valid)]
        if not self.plan.words:
            flipped = sum(0x80 << 8 * j for j in range(valid)) if self.flip else 0
            # Bytes are put together unsigned, whatever they mean.
            rows = [tir.cast(wide, tir.reinterpret(f"uint8x{lanes}", row)) for row in rows]
            return self._xor(self._joined(rows, 8), flipped)
        moved = [tir.cast("int16" + f"x{lanes}", row) - self._splat(self.spec.b_zero_point, "int16") for row in rows]
        if self.unit == 1:
            return moved[0]
        return self._joined([tir.cast(wide, tir.reinterpret(f"uint16x{lanes}", m)) for m in moved], 16)

    def _joined(self, rows: Sequence[Expr], bits: int) -> Expr:
        value = rows[0]
        for j, row in enumerate(rows[1:], 1):
            value = _op.bitwise_or(value, _op.shift_left(row, self._splat(bits * j, self.word)))
        return value

    def _splat(self, value: int, dtype: str) -> Expr:
        bits = int(dtype.removeprefix("int"))
        signed = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
        return tir.broadcast(tir.const(signed, dtype), self.lanes)

    def _xor(self, value: Expr, mask: int) -> Expr:
        return _op.bitwise_xor(value, self._splat(mask, self.word)) if mask else value

    def _put(self, place: Expr, words: Expr) -> None:
        elements = self.lanes * self.unit
        tir.vstore(self.panel, place, tir.reinterpret(f"{self.element}x{elements}", words), elements)

    # --- b's columns are contiguous: four columns by four units are transposed ----------------------------------------

    def _columns(self, source: Expr, place: Expr, vectors: int, columns: int) -> None:
        done = 0
        for size in self.isa.groups(vectors):
            start, width = done * self.lanes, size * self.lanes
            valid = max(min(columns - start, width), 0)
            full, rest = divmod(valid, _CHUNK)
            if full:
                with T.serial(0, full) as chunk:
                    column = tir.bind(source + (chunk * _CHUNK + start) * self.spec.b_n)
                    to = tir.bind(place + done * self._register + self._chunk_offset(chunk, size))
                    self._chunk(column, to, vectors)
            for i in range(rest):
                column = tir.bind(source + (start + full * _CHUNK + i) * self.spec.b_n)
                to = place + done * self._register + self._chunk_offset(tir.const(full), size) + i * self.unit
                self._column(column, tir.bind(to), vectors, 0)
            done += size

    def _chunk_offset(self, chunk: Expr, size: int) -> Expr:
        """Panel elements from a group of registers to the lanes of its columns 4·chunk … 4·chunk + 3."""
        if self.keeps:
            per_register = self.lanes // _CHUNK
            register, lane = loops.divide(chunk, per_register), loops.remainder(chunk, per_register) * _CHUNK
        else:
            register, lane = loops.remainder(chunk, size), loops.divide(chunk, size) * _CHUNK
        return register * self._register + lane * self.unit

    def _chunk(self, column: Expr, to: Expr, vectors: int) -> None:
        """Four columns, all of K."""
        unit, b_n = self.unit, self.spec.b_n
        full = self.spec.k // (_CHUNK * unit)
        if full:
            with T.serial(0, full) as block:
                k = tir.bind(block * (_CHUNK * unit))
                rows = [tir.hold(self._words(column + i * b_n + k)) for i in range(_CHUNK)]
                for j, words in enumerate(_transposed(rows)):
                    place = to + self._at(block * _CHUNK + j, vectors)
                    value = tir.reinterpret(f"{self.element}x{_CHUNK * unit}", words)
                    tir.vstore(self.panel, place, value, _CHUNK * unit)
        for i in range(_CHUNK):
            self._column(column + i * b_n, to + i * unit, vectors, full * _CHUNK)

    def _words(self, index: Expr) -> Expr:
        """Four units of one column as a vector of words."""
        count = _CHUNK * self.unit
        value = tir.vload(self.b, index, count)
        if self.plan.words:
            moved = tir.cast(f"int16x{count}", value)
            if self.spec.b_zero_point:
                moved = moved - tir.broadcast(tir.const(self.spec.b_zero_point, "int16"), count)
            return tir.reinterpret(f"{self.word}x{_CHUNK}", moved)
        value = tir.reinterpret(f"int8x{count}", value)
        if self.flip:
            value = _op.bitwise_xor(value, tir.broadcast(tir.const(-128, "int8"), count))
        return tir.reinterpret(f"{self.word}x{_CHUNK}", value)

    def _column(self, column: Expr, to: Expr, vectors: int, first: int) -> None:
        """One column from unit `first` on: whole units in a loop, the last one filled up with zeros."""
        whole, total = self.spec.k // self.unit, self.plan.groups * self.parts
        if whole > first:
            with T.serial(0, whole - first) as step:
                self._one_unit(column, to, tir.bind(step + first), self.unit, vectors)
        for unit in range(max(whole, first), total):
            self._one_unit(column, to, tir.const(unit), min(max(self.spec.k - unit * self.unit, 0), self.unit), vectors)

    def _one_unit(self, column: Expr, to: Expr, unit: Expr, valid: int, vectors: int) -> None:
        """`valid` elements, then zeros."""
        place = tir.bind(to + self._at(unit, vectors))
        for j in range(self.unit):
            value = tir.const(0, self.element)
            if j < valid:
                value = tir.load(self.b, column + unit * self.unit + j)
                if self.plan.words:
                    value = tir.cast("int16", value) - tir.const(self.spec.b_zero_point, "int16")
                elif self.flip:
                    value = _op.bitwise_xor(tir.reinterpret("int8", value), tir.const(-128, "int8"))
            tir.store(self.panel, place + j, value)


def _transposed(rows: Sequence[Expr]) -> list[Expr]:
    """Four vectors of four lanes, transposed: two rounds of pairwise interleaving."""
    a, b, c, d = rows
    low, high = [0, 4, 1, 5], [2, 6, 3, 7]
    ac = [tir.bind(tir.shuffle([a, c], picks)) for picks in (low, high)]
    bd = [tir.bind(tir.shuffle([b, d], picks)) for picks in (low, high)]
    return [tir.shuffle([ac[i], bd[i]], picks) for i in (0, 1) for picks in (low, high)]
