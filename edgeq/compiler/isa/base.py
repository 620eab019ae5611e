"""The vector operations an epilogue is written in; one subclass per instruction set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.isa.lazy import tir

Expr = Any  # tvm expression

IntArray = np.ndarray[Any, np.dtype[Any]]


def dtype_of(value: Expr) -> str:
    """tvm's name of an expression's type, e.g. 'int16x8'."""
    return str(value.ty.dtype)


def lanes_of(value: Expr) -> int:
    """Lanes of a vector expression."""
    lanes: int = value.ty.dtype.lanes
    return lanes


class Isa:
    """Vector layout and operations of one instruction set.

    An accumulator block is a list of s32 registers. In *pack order* its lanes hold the channels as the saturating pack
    instructions want them, so that narrowing restores the natural order for free; `order` says which channel is where.

    Attributes:
        lanes: s32 lanes of a register.
        group_sizes: how many registers are narrowed together, largest first; ends in 1.
        keeps_order: pack order is the natural order.
        finishes_words: sums of 16 bits can go through an epilogue of 16-bit lanes (kernels/epilogue/words.py).
        fraction_place: lowest bit of the Q15 numbers that `product_q15` takes and gives in 32-bit lanes; the bits
            below are zero.
        fetches: weights are asked for before they are read (`tir.fetch`), where that pays.
    """

    lanes: ClassVar[int]
    group_sizes: ClassVar[tuple[int, ...]]
    keeps_order: ClassVar[bool] = False
    finishes_words: ClassVar[bool] = False
    fraction_place: ClassVar[int] = 0
    fetches: ClassVar[bool] = False

    # --- layout -------------------------------------------------------------------------------------------------------

    def groups(self, vectors: int) -> list[int]:
        """A block of `vectors` registers as group sizes, e.g. 3 -> [2, 1]."""
        result: list[int] = []
        for size in self.group_sizes:
            while vectors - sum(result) >= size:
                result.append(size)
        return result

    def order(self, vectors: int) -> list[int]:
        """Pack order of a block: channel offset of each lane, register after register."""
        result: list[int] = []
        for group in self.groups(vectors):
            base = len(result)
            for register in range(group):
                for lane in range(self.lanes):
                    chunk, inside = divmod(lane, 4)
                    offset = (chunk * group + register) * 4 + inside
                    result.append(base + (register * self.lanes + lane if self.keeps_order else offset))
        return result

    # --- operations that LLVM has for every machine -------------------------------------------------------------------

    def splat(self, value: int, dtype: str, lanes: int) -> Expr:
        """A constant in every lane."""
        return tir.broadcast(tir.const(value, dtype), lanes)

    def add_saturating(self, a: Expr, b: Expr) -> Expr:
        """a + b, clamped to the lane's range."""
        return tir.intrin(dtype_of(a), "llvm.sadd.sat", a, b)

    def smax(self, a: Expr, b: Expr) -> Expr:
        """The larger one, signed."""
        return tir.intrin(dtype_of(a), "llvm.smax", a, b)

    def smin(self, a: Expr, b: Expr) -> Expr:
        """The smaller one, signed."""
        return tir.intrin(dtype_of(a), "llvm.smin", a, b)

    def shift_right(self, a: Expr, count: int) -> Expr:
        """Arithmetic shift by a constant."""
        if count == 0:
            return a
        scalar = dtype_of(a).partition("x")[0]
        return tir.tirx.op.shift_right(a, self.splat(count, scalar, lanes_of(a)))

    def shift_left(self, a: Expr, count: int) -> Expr:
        """Shift to the left by a constant."""
        if count == 0:
            return a
        scalar = dtype_of(a).partition("x")[0]
        return tir.tirx.op.shift_left(a, self.splat(count, scalar, lanes_of(a)))

    def split(self, vector: Expr, parts: int) -> list[Expr]:
        """Equal consecutive parts of a vector."""
        width = lanes_of(vector) // parts
        if parts == 1:
            return [vector]
        named = tir.bind(vector)
        return [tir.shuffle([named], range(p * width, (p + 1) * width)) for p in range(parts)]

    def product_q15(self, a: Expr, b: Expr, *, rounded: bool) -> Expr:
        """(a·b) >> 15, or (a·b + 2^14) >> 15, of numbers below 2^15 at `fraction_place` of u32 lanes."""
        op, lanes, dtype = tir.tirx.op, lanes_of(a), "uint32"
        product = a * b
        if rounded:
            product = product + tir.broadcast(tir.const(1 << 14, dtype), lanes)
        return op.shift_right(product, tir.broadcast(tir.const(15, dtype), lanes))

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Two registers of u32 lanes below 2^16 -> u16 lanes in natural order."""
        words = [tir.bind(tir.cast(f"uint16x{self.lanes}", register)) for register in (low, high)]
        return tir.shuffle(words, range(2 * self.lanes))

    def pack_bytes(self, low: Expr, high: Expr, unsigned: bool) -> Expr:
        """Two registers of s16 lanes -> u8 or s8 lanes in natural order, saturated."""
        parts = [tir.bind(self.saturate8(register, unsigned)) for register in (low, high)]
        return tir.shuffle(parts, range(4 * self.lanes))

    def pack_places(self, low: Expr, high: Expr, unsigned: bool) -> Expr:
        """As `pack_bytes`, but 128-bit lane by 128-bit lane: low's first eight, high's first eight, low's next …"""
        raise NotImplementedError

    def byte_sums(self, value: Expr) -> Expr:
        """Bytes of any signedness -> s32 lanes with the same total."""
        return tir.cast(f"int32x{lanes_of(value)}", value)

    def upper_product(self, a: Expr, b: Expr) -> Expr:
        """(a·b) >> 16 of a register of u16 lanes."""
        lanes = lanes_of(a)
        wide = f"uint32x{lanes}"
        product = tir.cast(wide, a) * tir.cast(wide, b)
        return tir.cast(f"uint16x{lanes}", tir.tirx.op.shift_right(product, self.splat(16, "uint32", lanes)))

    # --- what a subclass defines --------------------------------------------------------------------------------------

    def shift_parameters(self, shift: IntArray) -> IntArray:
        """The shift counts of `narrow` as `shift_right_by` wants them stored (int32)."""
        return shift

    def shift_right_by(self, acc: Expr, counts: Expr) -> Expr:
        """Arithmetic shift of s32 lanes by stored counts, 0 to 30."""
        return tir.tirx.op.shift_right(acc, counts)

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        """s32 registers of one group, in pack order or natural order -> one s16 vector in natural order, saturated."""
        raise NotImplementedError

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        """(a·m + 2^14) >> 15 of s16 lanes, m >= 0."""
        raise NotImplementedError

    def round_shift16(self, a: Expr, count: int) -> Expr:
        """(a + 2^(count − 1)) >> count of s16 lanes, 1 <= count <= 14; the sum may saturate."""
        half = self.splat(1 << (count - 1), "int16", lanes_of(a))
        return self.shift_right(self.add_saturating(a, half), count)

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        """s16 lanes -> u8 or s8 lanes, saturated, order kept."""
        raise NotImplementedError

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        """Products of s16 lanes (twice as many as a register has s32 lanes), added two by two: one s32 register.

        Which two meet is left to the instruction set. Modulo 2^32: −32768 four times gives 2^31.
        """
        raise NotImplementedError

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        """a·ma + b·mb of s16 lanes -> the s32 registers of one group in pack order (wrapping)."""
        raise NotImplementedError

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        """`pair_sum` with s32 scalars that fit s16 as multipliers."""
        raise NotImplementedError

    def dot(self, a: Expr, b: Expr) -> Expr:
        """Products of 2 · `lanes` s16 lanes as one s32 register with the same total."""
        halves = [
            tir.cast(f"int32x{self.lanes}", x) * tir.cast(f"int32x{self.lanes}", y)
            for x, y in zip(self.split(a, 2), self.split(b, 2), strict=True)
        ]
        return halves[0] + halves[1]

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        """int32 parameter sections of `single`, one or two words per lane each.

        Args:
            multiplier, shift: int64 [positions].
            low, high: int64 [positions]; clamping the accumulator to them doesn't change the clamped result.
        """
        raise NotImplementedError

    def single(self, acc: Expr, load: Any) -> Expr:
        """round(acc·m / 2^s) of one register, exact, in s32 lanes.

        Args:
            load: load(section, words) gives `words` int32 of a section at the register's place.
        """
        raise NotImplementedError

    def add_zero_point(self, value: Expr, zero_point: int) -> Expr:
        """A result of `single` plus a zero point of up to 16 bits, in s32 lanes, without overflow."""
        raise NotImplementedError

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        """table[start + index]: u8 lanes through 256 entries of a flat byte buffer; None: no such instructions."""
        return None
