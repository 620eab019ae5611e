"""Processors without vector instructions: four lanes that LLVM takes apart into general registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.compiler.isa.base import Expr, IntArray, lanes_of
from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.isa.portable.vectors import Portable


class Generic(Portable):
    """Portable arithmetic in the forms that become the fewest instructions of general registers."""

    def _clamped(self, value: Expr, low: int, high: int, dtype: str) -> Expr:
        scalar, lanes = ("int32" if dtype == "int16" else "int16"), lanes_of(value)
        limited = self.smin(self.smax(value, self.splat(low, scalar, lanes)), self.splat(high, scalar, lanes))
        return tir.cast(f"{dtype}x{lanes}", limited)

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        return self.join([self._clamped(register, -(2**15), 2**15 - 1, "int16") for register in group])

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        if unsigned:
            return self._clamped(value, 0, 255, "uint8")
        return self._clamped(value, -128, 127, "int8")

    def _products(self, a: Expr, b: Expr) -> list[Expr]:
        parts = lanes_of(a) // self.lanes
        wide = f"int32x{self.lanes}"
        pairs = zip(self.split(a, parts), self.split(b, parts), strict=True)
        return [tir.cast(wide, x) * tir.cast(wide, y) for x, y in pairs]

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        low, high = self._products(a, b)
        return low + high

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        lanes = lanes_of(a)
        weights = [self.splat(m, "int16", lanes) for m in (a_multiplier, b_multiplier)]
        return [x + y for x, y in zip(self._products(a, weights[0]), self._products(b, weights[1]), strict=True)]

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        lanes = lanes_of(a)
        weights = [tir.broadcast(tir.cast("int16", w), lanes) for w in (a_weight, b_weight)]
        return [x + y for x, y in zip(self._products(a, weights[0]), self._products(b, weights[1]), strict=True)]

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        # The counts are 64-bit lanes, two little-endian words each; they come last, as sections are counted by lanes.
        return [multiplier, low, high, np.ascontiguousarray(shift, dtype="<i8").view("<i4").astype(np.int64)]

    def single(self, acc: Expr, load: Any) -> Expr:
        op, lanes = tir.tirx.op, self.lanes
        wide = f"int64x{lanes}"
        counts = tir.bind(tir.reinterpret(wide, load(3, 2 * lanes)))
        # Accumulators that saturate the output anyway are limited first, so that the result fits 32 bits.
        limited = self.smin(self.smax(acc, load(1, lanes)), load(2, lanes))
        product = tir.cast(wide, limited) * tir.cast(wide, load(0, lanes))
        half = op.shift_left(self.splat(1, "int64", lanes), counts - self.splat(1, "int64", lanes))
        return tir.cast(f"int32x{lanes}", op.shift_right(product + half, counts))

    def add_zero_point(self, value: Expr, zero_point: int) -> Expr:
        return self.add_saturating(value, self.splat(zero_point, "int32", self.lanes))

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        index = tir.bind(index)
        lanes = lanes_of(index)
        entries = [
            tir.bind(tir.load(table, tir.i32(start) + tir.cast("int32", tir.shuffle([index], [lane]))))
            for lane in range(lanes)
        ]
        return tir.reinterpret(f"uint8x{lanes}", tir.shuffle(entries, range(lanes)))
