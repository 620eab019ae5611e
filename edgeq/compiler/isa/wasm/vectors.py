"""WebAssembly: 128-bit registers of SIMD128, whose instructions are those that x86 and Arm have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.compiler.isa import lookup
from edgeq.compiler.isa.base import Expr, IntArray, lanes_of
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.portable.vectors import Portable

# A shift of every lane by a count of its own doesn't exist: lanes are multiplied by 2^(30 − count) instead, and bits 30
# to 61 of the products are the result.
_PLACE = 30
# `single` keeps the upper 32 bits of the product, so its shift must be at least 33; smaller ones scale the clamped
# accumulator up. Below 13 every accumulator but 0 saturates any 16-bit output, so that 13 gives the same result.
_SINGLE_SHIFT, _SATURATING_SHIFT = 33, 13


class WasmSimd(Portable):
    """Natural order; saturation comes with narrowing."""

    def shift_parameters(self, shift: IntArray) -> IntArray:
        factors: IntArray = np.left_shift(np.int64(1), _PLACE - np.asarray(shift, np.int64))
        return factors

    def shift_right_by(self, acc: Expr, counts: Expr) -> Expr:
        place = self.splat(_PLACE, "uint64", 2)
        halves = [
            tir.tirx.op.shift_right(tir.reinterpret("uint64x2", product), place)
            for product in self._long_products(acc, counts)
        ]
        words = [tir.bind(tir.reinterpret("int32x4", half)) for half in halves]
        return tir.shuffle(words, (0, 2, 4, 6))

    def _long_products(self, a: Expr, b: Expr) -> list[Expr]:
        """s32x4 · s32x4 -> two registers of s64 (i64x2.extmul)."""
        pairs = zip(self.split(a, 2), self.split(b, 2), strict=True)
        return [tir.bind(tir.cast("int64x2", x) * tir.cast("int64x2", y)) for x, y in pairs]

    @staticmethod
    def _whole(value: Expr) -> Expr:
        """Four s16 lanes twice, so that they fill a register; eight as they are."""
        named = tir.bind(value)
        return named if lanes_of(value) == 8 else tir.bind(tir.shuffle([named, named], range(8)))

    @staticmethod
    def _part(value: Expr, lanes: int) -> Expr:
        """The first lanes."""
        return value if lanes_of(value) == lanes else tir.shuffle([tir.bind(value)], range(lanes))

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        first = tir.bind(group[0])
        packed = tir.intrin("int16x8", "llvm.wasm.narrow.signed", first, group[-1] if len(group) == 2 else first)
        return self._part(packed, 4 * len(group))

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        # Saturates for −32768 twice only, and m ≥ 0.
        product = tir.intrin("int16x8", "llvm.wasm.q15mulr.sat.signed", self._whole(a), self._whole(m))
        return self._part(product, lanes_of(a))

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        whole, lanes = self._whole(value), lanes_of(value)
        name = "llvm.wasm.narrow.unsigned" if unsigned else "llvm.wasm.narrow.signed"
        packed = self._part(tir.intrin("int8x16", name, whole, whole), lanes)
        return tir.reinterpret(f"uint8x{lanes}", packed) if unsigned else packed

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        signed = [tir.reinterpret("int32x4", register) for register in (low, high)]
        return tir.reinterpret("uint16x8", tir.intrin("int16x8", "llvm.wasm.narrow.unsigned", *signed))

    def pack_bytes(self, low: Expr, high: Expr, unsigned: bool) -> Expr:
        name = "llvm.wasm.narrow.unsigned" if unsigned else "llvm.wasm.narrow.signed"
        packed = tir.intrin("int8x16", name, low, high)
        return tir.reinterpret("uint8x16", packed) if unsigned else packed

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        return tir.intrin("int32x4", "llvm.wasm.dot", a, b)

    def dot(self, a: Expr, b: Expr) -> Expr:
        return self.dot_pairs(a, b)

    def _interleaved(self, a: Expr, b: Expr) -> list[Expr]:
        """a0, b0, a1, b1 …, eight lanes a register."""
        lanes = lanes_of(a)
        a, b = tir.bind(a), tir.bind(b)
        return [
            tir.shuffle([a, b], [x for i in range(start, start + 4) for x in (i, lanes + i)])
            for start in range(0, lanes, 4)
        ]

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        pair = (a_multiplier & 0xFFFF) | (b_multiplier & 0xFFFF) << 16
        signed = pair - 2**32 if pair >= 2**31 else pair
        multipliers = tir.reinterpret("int16x8", self.splat(signed, "int32", 4))
        return [self.dot_pairs(pairs, multipliers) for pairs in self._interleaved(a, b)]

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        low = a_weight & tir.const(0xFFFF)
        pair = tir.bind(low | tir.tirx.op.shift_left(b_weight, tir.const(16)))
        multipliers = tir.reinterpret("int16x8", tir.broadcast(pair, 4))
        return [self.dot_pairs(pairs, multipliers) for pairs in self._interleaved(a, b)]

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        effective = np.maximum(shift, _SATURATING_SHIFT)
        left = np.maximum(_SINGLE_SHIFT - effective, 0)
        right = effective + left - 32
        rounding = np.left_shift(np.int64(1), right - 1)
        return [low, high, np.left_shift(np.int64(1), left), multiplier, rounding, self.shift_parameters(right)]

    def single(self, acc: Expr, load: Any) -> Expr:
        low, high, left, multiplier, rounding, right = [load(section, 4) for section in range(6)]
        x = tir.bind(self.smin(self.smax(acc, low), high) * left)
        products = [tir.bind(tir.reinterpret("int32x4", p)) for p in self._long_products(x, multiplier)]
        upper = tir.shuffle(products, (1, 3, 5, 7))
        return self.shift_right_by(tir.bind(upper + rounding), right)

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_swizzles(index, table, start)
