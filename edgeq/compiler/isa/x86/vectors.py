"""x86-64: 128-bit registers of SSE4.1, 256-bit registers of AVX2 and 512-bit registers of AVX-512 (F, BW, DQ, VL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.compiler.isa import lookup
from edgeq.compiler.isa.base import Expr, IntArray, Isa, lanes_of
from edgeq.compiler.isa.lazy import tir

# `single` keeps the upper 32 bits of the product, so its shift must be at least 33 (the rounding constant then lies in
# the upper half); smaller shifts scale the clamped accumulator up. Below 13 every accumulator but 0 saturates any
# 16-bit output, so that 13 gives the same result.
_SINGLE_SHIFT, _SATURATING_SHIFT = 33, 13


class X86(Isa):
    """What AVX2 and AVX-512 share: packing works within 128-bit lanes, so pack order interleaves two registers."""

    group_sizes = (2, 1)
    fetches = True
    fraction_place = 16  # what is there already needs no shift before it is shifted as a 32-bit number

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        effective = np.maximum(shift, _SATURATING_SHIFT)
        left = np.maximum(_SINGLE_SHIFT - effective, 0)
        right = effective + left - 32
        rounding = np.left_shift(np.int64(1), right - 1)
        odd = np.zeros_like(multiplier)
        odd[0::2] = multiplier[1::2]
        return [low, high, self.left_parameters(left), multiplier, odd, rounding, right]

    def left_parameters(self, left: IntArray) -> IntArray:
        """Counts as `shift_left_by` wants them stored."""
        return left

    def shift_left_by(self, value: Expr, counts: Expr) -> Expr:
        """s32 lanes moved to the left by stored counts."""
        return tir.tirx.op.shift_left(value, counts)

    def single(self, acc: Expr, load: Any) -> Expr:
        op, lanes = tir.tirx.op, self.lanes
        low, high, left, even_m, odd_m, rounding, right = [load(section, lanes) for section in range(7)]
        x = tir.bind(self.shift_left_by(self.smin(self.smax(acc, low), high), left))
        wide, half = f"int64x{lanes // 2}", self.splat(32, "int64", lanes // 2)

        def low_half(value: Expr) -> Expr:
            # Sign extension of the low 32 bits; with the multiplication it becomes one vpmuldq.
            return op.shift_right(op.shift_left(tir.reinterpret(wide, value), half), half)

        even = tir.bind(tir.reinterpret(f"int32x{lanes}", low_half(x) * low_half(even_m)))
        shifted = op.shift_right(tir.reinterpret(wide, x), half)
        odd = tir.bind(tir.reinterpret(f"int32x{lanes}", shifted * low_half(odd_m)))
        picks = [lane + 1 if lane % 2 == 0 else lanes + lane for lane in range(lanes)]
        upper = tir.shuffle([even, odd], picks)
        return op.shift_right(upper + rounding, right)

    def product_q15(self, a: Expr, b: Expr, *, rounded: bool) -> Expr:
        # The lower halves of the lanes are zero, so products of s16 lanes do: one instruction each.
        lanes = lanes_of(a)
        if lanes != self.lanes:
            op, place = tir.tirx.op, tir.broadcast(tir.const(self.fraction_place, "uint32"), lanes)
            product = super().product_q15(op.shift_right(a, place), op.shift_right(b, place), rounded=rounded)
            return op.shift_left(product, place)
        halves = f"int16x{2 * lanes}"
        if rounded:
            return tir.reinterpret(
                f"uint32x{lanes}", self.multiply_high16(tir.reinterpret(halves, a), tir.reinterpret(halves, b))
            )
        product = self.upper_product(tir.reinterpret(f"u{halves}", a + a), tir.reinterpret(f"u{halves}", b))
        return tir.reinterpret(f"uint32x{lanes}", product)

    def byte_sums(self, value: Expr) -> Expr:
        lanes = lanes_of(value)
        name = {16: "sse2.psad.bw", 32: "avx2.psad.bw", 64: "avx512.psad.bw.512"}.get(lanes)
        if name is None or not str(value.ty.dtype).startswith("uint8"):
            return super().byte_sums(value)
        bytes_of = [tir.reinterpret(f"int8x{lanes}", v) for v in (value, tir.broadcast(tir.const(0, "uint8"), lanes))]
        return tir.reinterpret(f"int32x{lanes // 4}", tir.intrin(f"int64x{lanes // 8}", f"llvm.x86.{name}", *bytes_of))

    def upper_product(self, a: Expr, b: Expr) -> Expr:
        lanes = lanes_of(a)
        name = {8: "llvm.x86.sse2.pmulhu.w", 16: "llvm.x86.avx2.pmulhu.w", 32: "llvm.x86.avx512.pmulhu.w.512"}[lanes]
        signed = f"int16x{lanes}"
        product = tir.intrin(signed, name, tir.reinterpret(signed, a), tir.reinterpret(signed, b))
        return tir.reinterpret(f"u{signed}", product)

    def round_shift16(self, a: Expr, count: int) -> Expr:
        # The rounding multiplication does both in one instruction.
        return self.multiply_high16(a, self.splat(1 << (15 - count), "int16", lanes_of(a)))

    def add_zero_point(self, value: Expr, zero_point: int) -> Expr:
        # `single` clamped the accumulator, so its result lies near the output's range: no saturation needed.
        return value + self.splat(zero_point, "int32", self.lanes)

    def interleave(self, a: Expr, b: Expr) -> list[Expr]:
        """a0, b0, a1, b1 … : one vector for a single register's lanes, else low and high parts of each 128-bit lane."""
        lanes = lanes_of(a)
        a, b = tir.bind(a), tir.bind(b)
        if lanes == self.lanes:
            return [tir.shuffle([a, b], [x for i in range(lanes) for x in (i, lanes + i)])]
        chunks = range(0, lanes, 8)
        return [
            tir.shuffle([a, b], [x for c in chunks for i in range(c + part, c + part + 4) for x in (i, lanes + i)])
            for part in (0, 4)
        ]

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        name = {4: "llvm.x86.sse41.packusdw", 8: "llvm.x86.avx2.packusdw", 16: "llvm.x86.avx512.packusdw.512"}[
            self.lanes
        ]
        signed = [tir.reinterpret(f"int32x{self.lanes}", register) for register in (low, high)]
        return self._in_order(tir.intrin(f"int16x{2 * self.lanes}", name, *signed), f"uint16x{2 * self.lanes}")

    def pack_bytes(self, low: Expr, high: Expr, unsigned: bool) -> Expr:
        return self._in_order(self.pack_places(low, high, unsigned), f"{'u' if unsigned else ''}int8x{4 * self.lanes}")

    def pack_places(self, low: Expr, high: Expr, unsigned: bool) -> Expr:
        kind = "packuswb" if unsigned else "packsswb"
        name = {4: f"sse2.{kind}.128", 8: f"avx2.{kind}", 16: f"avx512.{kind}.512"}[self.lanes]
        packed = tir.intrin(f"int8x{4 * self.lanes}", f"llvm.x86.{name}", low, high)
        return tir.reinterpret(f"uint8x{4 * self.lanes}", packed) if unsigned else packed

    def _in_order(self, packed: Expr, dtype: str) -> Expr:
        """What a pack instruction interleaved, its first operand's 64-bit parts first."""
        parts = self.lanes // 2
        whole = tir.bind(tir.reinterpret(f"int64x{parts}", packed))
        return tir.reinterpret(dtype, tir.shuffle([whole], [*range(0, parts, 2), *range(1, parts, 2)]))

    def multiply_add(self, a: Expr, b: Expr) -> Expr:
        """Products of s16 lanes, neighbours summed to s32 (pmaddwd), one register."""
        raise NotImplementedError

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        return self.multiply_add(a, b)

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        pair = (a_multiplier & 0xFFFF) | (b_multiplier & 0xFFFF) << 16
        signed = pair - 2**32 if pair >= 2**31 else pair
        multipliers = tir.reinterpret(f"int16x{2 * self.lanes}", self.splat(signed, "int32", self.lanes))
        return [self.multiply_add(pairs, multipliers) for pairs in self.interleave(a, b)]

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        low = a_weight & tir.const(0xFFFF)
        pair = tir.bind(low | tir.tirx.op.shift_left(b_weight, tir.const(16)))
        multipliers = tir.reinterpret(f"int16x{2 * self.lanes}", tir.broadcast(pair, self.lanes))
        return [self.multiply_add(pairs, multipliers) for pairs in self.interleave(a, b)]

    def dot(self, a: Expr, b: Expr) -> Expr:
        return self.multiply_add(a, b)


class Sse4(X86):
    """128-bit registers: SSE4.1 and SSSE3. Packing two of them keeps the order."""

    lanes = 4
    keeps_order = True
    finishes_words = True

    def left_parameters(self, left: IntArray) -> IntArray:
        # No shift has a count for each lane, and LLVM would make powers of two in floating point.
        powers: IntArray = np.left_shift(np.int64(1), left)
        return powers

    def shift_left_by(self, value: Expr, counts: Expr) -> Expr:
        return value * counts

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        a = tir.bind(group[0])
        packed = tir.intrin("int16x8", "llvm.x86.sse2.packssdw.128", a, group[-1] if len(group) == 2 else a)
        return packed if len(group) == 2 else tir.shuffle([tir.bind(packed)], range(4))

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        product = tir.intrin("int16x8", "llvm.x86.ssse3.pmul.hr.sw.128", self._whole(a), self._whole(m))
        return product if lanes_of(a) == 8 else tir.shuffle([tir.bind(product)], range(4))

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        lanes = lanes_of(value)
        name = "llvm.x86.sse2.packuswb.128" if unsigned else "llvm.x86.sse2.packsswb.128"
        whole = tir.bind(self._whole(value))
        packed = tir.shuffle([tir.bind(tir.intrin("int8x16", name, whole, whole))], range(lanes))
        return tir.reinterpret(f"uint8x{lanes}", packed) if unsigned else packed

    def upper_product(self, a: Expr, b: Expr) -> Expr:
        product = super().upper_product(self._whole(a), self._whole(b))
        return product if lanes_of(a) == 8 else tir.shuffle([tir.bind(product)], range(4))

    @staticmethod
    def _whole(value: Expr) -> Expr:
        """Four s16 lanes twice, so that they fill a register; eight as they are."""
        if lanes_of(value) == 8:
            return value
        named = tir.bind(value)
        return tir.shuffle([named, named], range(8))

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_shuffles(index, table, start)

    def multiply_add(self, a: Expr, b: Expr) -> Expr:
        return tir.intrin("int32x4", "llvm.x86.sse2.pmadd.wd", a, b)


class Avx2(X86):
    """256-bit registers."""

    lanes = 8
    finishes_words = True

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        if len(group) == 1:
            low, high = self.split(group[0], 2)
            return tir.intrin("int16x8", "llvm.x86.sse2.packssdw.128", low, high)
        packed = tir.intrin("int16x16", "llvm.x86.avx2.packssdw", *group)
        if not natural:
            return packed
        return tir.shuffle([tir.bind(packed)], [*range(4), *range(8, 12), *range(4, 8), *range(12, 16)])

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        if lanes_of(a) == 8:
            return tir.intrin("int16x8", "llvm.x86.ssse3.pmul.hr.sw.128", a, m)
        return tir.intrin("int16x16", "llvm.x86.avx2.pmul.hr.sw", a, m)

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        lanes = lanes_of(value)
        halves = self.split(value, 2) if lanes == 16 else [tir.bind(value)] * 2
        name = "llvm.x86.sse2.packuswb.128" if unsigned else "llvm.x86.sse2.packsswb.128"
        packed = tir.intrin("int8x16", name, *halves)
        if lanes == 8:
            packed = tir.shuffle([tir.bind(packed)], range(8))
        return tir.reinterpret(f"uint8x{lanes}", packed) if unsigned else packed

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_shuffles(index, table, start)

    def multiply_add(self, a: Expr, b: Expr) -> Expr:
        return tir.intrin("int32x8", "llvm.x86.avx2.pmadd.wd", a, b)


class Avx512(X86):
    """512-bit registers."""

    lanes = 16
    fetches = False  # vpdpbusd takes a line a cycle: what is asked for ahead only comes in its way

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        if len(group) == 1:
            low, high = self.splat(-32768, "int32", 16), self.splat(32767, "int32", 16)
            return tir.cast("int16x16", self.smin(self.smax(group[0], low), high))
        packed = tir.intrin("int16x32", "llvm.x86.avx512.packssdw.512", *group)
        if not natural:
            return packed
        quads = [0, 2, 4, 6, 1, 3, 5, 7]
        return tir.shuffle([tir.bind(packed)], [4 * quad + i for quad in quads for i in range(4)])

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        if lanes_of(a) == 16:
            return tir.intrin("int16x16", "llvm.x86.avx2.pmul.hr.sw", a, m)
        return tir.intrin("int16x32", "llvm.x86.avx512.pmul.hr.sw.512", a, m)

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        lanes = lanes_of(value)
        low, high = (0, 255) if unsigned else (-128, 127)
        value = self.smin(self.smax(value, self.splat(low, "int16", lanes)), self.splat(high, "int16", lanes))
        return tir.cast(f"uint8x{lanes}" if unsigned else f"int8x{lanes}", value)

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_word_permutes(index, table, start)

    def multiply_add(self, a: Expr, b: Expr) -> Expr:
        return tir.intrin("int32x16", "llvm.x86.avx512.pmaddw.d.512", a, b)
