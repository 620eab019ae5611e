"""Any processor that LLVM knows: vector types without one intrinsic of a machine. LLVM splits them into registers, or
into scalars where there are no vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.compiler.isa import lookup
from edgeq.compiler.isa.base import Expr, IntArray, Isa, dtype_of, lanes_of
from edgeq.compiler.isa.lazy import tir

# Below this a 32-bit accumulator other than 0 saturates any 16-bit output, so that it gives the same result.
_SATURATING_SHIFT = 13


class Portable(Isa):
    """Four lanes, order kept; clamps are minimum and maximum, which LLVM merges with narrowing where it can."""

    lanes = 4
    group_sizes = (2, 1)
    keeps_order = True

    def join(self, parts: Sequence[Expr]) -> Expr:
        """The parts one after the other."""
        if len(parts) == 1:
            return parts[0]
        named = [tir.bind(part) for part in parts]
        return tir.shuffle(named, range(sum(lanes_of(part) for part in parts)))

    def clamp(self, value: Expr, low: int, high: int) -> Expr:
        """low ≤ value ≤ high, lane by lane."""
        dtype, lanes = dtype_of(value).partition("x")[0], lanes_of(value)
        return self.smin(self.smax(value, self.splat(low, dtype, lanes)), self.splat(high, dtype, lanes))

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        return self.join([tir.cast(f"int16x{self.lanes}", self.clamp(r, -32768, 32767)) for r in group])

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        lanes = lanes_of(a)
        product = tir.cast(f"int32x{lanes}", a) * tir.cast(f"int32x{lanes}", m)
        rounded = product + self.splat(1 << 14, "int32", lanes)
        return tir.cast(f"int16x{lanes}", self.shift_right(rounded, 15))  # m ≥ 0: never past 16 bits

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        low, high = (0, 255) if unsigned else (-128, 127)
        return tir.cast(f"{'u' if unsigned else ''}int8x{lanes_of(value)}", self.clamp(value, low, high))

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        return self.dot(a, b)

    def _weighted(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        parts, wide = lanes_of(a) // self.lanes, f"int32x{self.lanes}"
        return [
            tir.cast(wide, x) * a_weight + tir.cast(wide, y) * b_weight
            for x, y in zip(self.split(a, parts), self.split(b, parts), strict=True)
        ]

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        return self._weighted(a, b, *(self.splat(m, "int32", self.lanes) for m in (a_multiplier, b_multiplier)))

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        return self._weighted(a, b, *(tir.broadcast(weight, self.lanes) for weight in (a_weight, b_weight)))

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        effective = np.maximum(shift, _SATURATING_SHIFT)
        return [low, high, multiplier, effective]

    def single(self, acc: Expr, load: Any) -> Expr:
        op, wide = tir.tirx.op, f"int64x{self.lanes}"
        low, high, multiplier, shift = (load(section, self.lanes) for section in range(4))
        limited = self.smin(self.smax(acc, low), high)
        product = tir.cast(wide, limited) * tir.cast(wide, multiplier)
        count = tir.bind(tir.cast(wide, shift))
        one = self.splat(1, "int64", self.lanes)
        rounding = op.shift_left(one, count - one)
        return tir.cast(f"int32x{self.lanes}", op.shift_right(product + rounding, count))

    def add_zero_point(self, value: Expr, zero_point: int) -> Expr:
        # `single` clamped the accumulator, so its result lies near the output's range: no saturation needed.
        return value + self.splat(zero_point, "int32", self.lanes)

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_loads(index, table, start)
