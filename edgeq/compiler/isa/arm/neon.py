"""Arm: 128-bit registers of Advanced SIMD (Neon)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.isa import lookup
from edgeq.compiler.isa.arm.names import AARCH64, NeonNames
from edgeq.compiler.isa.base import Expr, IntArray, Isa, lanes_of
from edgeq.compiler.isa.lazy import tir

_LEAST_SHIFT = 32  # of `single`


class Neon(Isa):
    """Narrowing instructions keep the order, and rounding shifts and saturation come built in."""

    lanes = 4
    group_sizes = (2, 1)
    keeps_order = True
    names: ClassVar[NeonNames] = AARCH64

    def join(self, parts: Sequence[Expr]) -> Expr:
        """The parts one after the other."""
        if len(parts) == 1:
            return parts[0]
        named = [tir.bind(part) for part in parts]
        return tir.shuffle(named, range(sum(lanes_of(part) for part in parts)))

    def shift_parameters(self, shift: IntArray) -> IntArray:
        return -shift

    def shift_right_by(self, acc: Expr, counts: Expr) -> Expr:
        return tir.intrin("int32x4", f"{self.names.shift}.v4i32", acc, counts)

    def saturate16(self, group: Sequence[Expr], natural: bool) -> Expr:
        return self.join([tir.intrin("int16x4", f"{self.names.narrow}.v4i16", register) for register in group])

    def multiply_high16(self, a: Expr, m: Expr) -> Expr:
        lanes = lanes_of(a)
        return tir.intrin(f"int16x{lanes}", f"{self.names.multiply_high}.v{lanes}i16", a, m)

    def saturate8(self, value: Expr, unsigned: bool) -> Expr:
        lanes = lanes_of(value)
        if lanes == 4:
            value = self.join([value, value])  # sqxtn takes eight lanes
        name = self.names.narrow_unsigned if unsigned else self.names.narrow
        narrow = tir.intrin("int8x8", f"{name}.v8i8", value)
        if lanes == 4:
            narrow = tir.shuffle([tir.bind(narrow)], range(4))
        return tir.reinterpret(f"uint8x{lanes}", narrow) if unsigned else narrow

    def multiply_long16(self, a: Expr, b: Expr) -> Expr:
        """s16x4 · s16x4 -> s32x4."""
        return self.names.multiply16(a, b)

    def dot_pairs(self, a: Expr, b: Expr) -> Expr:
        low, high = (self.multiply_long16(x, y) for x, y in zip(self.split(a, 2), self.split(b, 2), strict=True))
        return low + high

    def pair_sum(self, a: Expr, b: Expr, a_multiplier: int, b_multiplier: int) -> list[Expr]:
        parts = lanes_of(a) // 4
        ma, mb = self.splat(a_multiplier, "int16", 4), self.splat(b_multiplier, "int16", 4)
        return [
            self.multiply_long16(x, ma) + self.multiply_long16(y, mb)
            for x, y in zip(self.split(a, parts), self.split(b, parts), strict=True)
        ]

    def weighted_pair(self, a: Expr, b: Expr, a_weight: Expr, b_weight: Expr) -> list[Expr]:
        parts = lanes_of(a) // 4
        ma, mb = (tir.broadcast(tir.cast("int16", weight), 4) for weight in (a_weight, b_weight))
        return [
            self.multiply_long16(x, ma) + self.multiply_long16(y, mb)
            for x, y in zip(self.split(a, parts), self.split(b, parts), strict=True)
        ]

    def lookup(self, index: Expr, table: Expr, start: Expr | int = 0) -> Expr | None:
        return lookup.by_table_registers(index, table, start)

    def single_sections(self, multiplier: IntArray, shift: IntArray, low: IntArray, high: IntArray) -> list[IntArray]:
        # (acc·m) >> 31, rounded down, leaves a shift of s − 31 with rounding, which gives the same as one rounding of
        # the whole: floor((floor(x) + n) / d) = floor((x + n) / d). It has to be 1 or more; where s is below 32 the
        # accumulator goes to the left first. What saturates there is 2^29 or more in the end: outside every output.
        effective = np.maximum(shift, _LEAST_SHIFT)
        return [multiplier, effective - shift, 31 - effective]

    def single(self, acc: Expr, load: Any) -> Expr:
        multiplier, left, counts = (load(section, 4) for section in range(3))
        moved = tir.intrin("int32x4", f"{self.names.saturating_shift}.v4i32", acc, left)
        product = tir.intrin("int32x4", f"{self.names.double_high}.v4i32", moved, multiplier)
        return tir.intrin("int32x4", f"{self.names.round_shift}.v4i32", product, counts)

    def add_zero_point(self, value: Expr, zero_point: int) -> Expr:
        return self.add_saturating(value, self.splat(zero_point, "int32", 4))
