"""Epilogues one value at a time, for processors whose registers are general ones: packing without tvm, and emission.

The operand `params` holds one record of int32 words a channel, all words of a channel side by side:

    none     start
    narrow   start, shift + left, multiplier
    single   start, multiplier, shift, low, high      (low and high limit the accumulator without changing the result)

`start` is where the channel's accumulator begins: bias, zero-point term and (narrow) the rounding of the first shift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.compiler.isa.lazy import tir
from edgeq.compiler.kernels.base import DTYPE_RANGE, TVM_DTYPE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import (
    check_constants,
    check_width,
    residual_constants,
    useful_range,
    wrapped,
)
from edgeq.integer.arithmetic import narrow_rounding

IntArray = np.ndarray[Any, np.dtype[Any]]
Expr = Any  # tvm expression

RECORD_WORDS = {"none": 1, "narrow": 3, "single": 5}


def pack_records(
    epilogue: Epilogue,
    start: IntArray,
    multiplier: IntArray | None,
    shift: IntArray | None,
    acc_low: IntArray,
    acc_high: IntArray,
) -> IntArray:
    """The operand `params` as int32 [channels, words of a record].

    Args:
        start: int64 [channels], bias and zero-point term.
        multiplier, shift: [channels] or one element; None for the form `none`.
        acc_low, acc_high: int64 [channels], interval of the finished accumulators.

    Raises:
        CompileError: something could leave its width, or a constant is outside its range.
    """
    check_width(epilogue, shift, acc_low, acc_high, None)
    channels = start.shape[0]
    if epilogue.form == "none" or multiplier is None or shift is None:
        return wrapped(start).astype(np.int32)[:, None]
    m = np.broadcast_to(np.asarray(multiplier, np.int64).reshape(-1), (channels,))
    s = np.broadcast_to(np.asarray(shift, np.int64).reshape(-1), (channels,))
    check_constants(epilogue, m, s, None)
    if epilogue.form == "narrow":
        columns = [wrapped(start + narrow_rounding(s)), s + epilogue.left, m]
    else:
        columns = [wrapped(start), m, s, *useful_range(epilogue, m, s)]
    return np.stack(columns, axis=1).astype(np.int32)


def scaling_constants(epilogue: Epilogue) -> tuple[int, int]:
    """Of `narrow`: what is added to the product (rounding of both shifts, zero point), and how far it is shifted."""
    q = epilogue.post_shift
    return (1 << 14) + ((((1 << q) >> 1) + (epilogue.zero_point << q)) << 15), 15 + q


class ScalarEpilogue:
    """Emits the way from one finished accumulator to one stored value.

    Args:
        saturate: saturate(value, bits) clamps an s32 to a signed width in one instruction.
        params, table, residual: flat operands.
        scaling: what `scaling_constants` gives, where it isn't known before run time.
    """

    def __init__(
        self,
        epilogue: Epilogue,
        saturate: Callable[[Expr, int], Expr],
        params: Expr,
        table: Expr | None = None,
        residual: Expr | None = None,
        scaling: tuple[Expr, Expr] | None = None,
    ) -> None:
        self.epilogue, self.saturate = epilogue, saturate
        self.scaling = scaling or scaling_constants(epilogue)
        self.params, self.table, self.residual = params, table, residual

    def constants(self, record: Expr) -> list[Expr]:
        """A channel's words behind `start`, loaded; `record` is the index of its first word."""
        words = RECORD_WORDS[self.epilogue.form]
        return [tir.bind(tir.load(self.params, record + k)) for k in range(1, words)]

    def finish(self, acc: Expr, constants: list[Expr], residual_index: Expr | None = None, fraction: int = 0) -> Expr:
        """The stored value of an accumulator, in the stored dtype.

        Args:
            fraction: the accumulator is that many bits to the left, the bits below it anything; of a `narrow` record
                the shift has been raised by as much.
        """
        e, op = self.epilogue, tir.tirx.op
        if e.form != "narrow" and fraction:
            acc = op.shift_right(acc, tir.const(fraction))
        if e.form == "none":
            return acc
        value = self._narrow(acc, constants, fraction > 0) if e.form == "narrow" else self._single(acc, *constants)
        if e.lut:
            place = tir.bind(value - DTYPE_RANGE[e.dtype][0])
            value = tir.cast("int32", tir.load(self.table, place))
        if e.residual is not None:
            value = self._add(value, residual_index)
        return tir.cast(TVM_DTYPE[e.dtype], value)

    def _narrow(self, acc: Expr, constants: list[Expr], stands_left: bool) -> Expr:
        """Both rounding shifts of `narrow` in one: floor((floor(z / 2^15) + c) / 2^q) = floor((z + c·2^15) / 2^(15+q)).

        |a·m| < 2^30 and the constant stays below 2^29 (|zero point| <= 128, q <= 6), so 32 bits hold the sum.

        Args:
            constants: shift and multiplier.
            stands_left: the accumulator is further left already, so it has no room for `left`, and no need of it.
        """
        e, op = self.epilogue, tir.tirx.op
        shift, multiplier = constants
        if e.left and stands_left:
            shift = shift - tir.const(e.left)
        elif e.left:
            acc = op.shift_left(acc, tir.const(e.left))
        a = self.saturate(op.shift_right(acc, shift), 16)
        constant, right = (tir.i32(number) for number in self.scaling)
        scaled = op.shift_right(a * multiplier + constant, right)
        return self._clamp(scaled, e.low, e.high)

    def _single(self, acc: Expr, multiplier: Expr, shift: Expr, low: Expr, high: Expr) -> Expr:
        e, op = self.epilogue, tir.tirx.op
        limited = tir.tirx.min(tir.tirx.max(acc, low), high)
        wide = tir.bind(tir.cast("int64", shift))
        half = op.shift_left(tir.const(1, "int64"), wide - tir.const(1, "int64"))
        product = tir.cast("int64", limited) * tir.cast("int64", multiplier)
        value = tir.cast("int32", op.shift_right(product + half, wide))
        return self._clamp(value + e.zero_point if e.zero_point else value, e.low, e.high)

    def _clamp(self, value: Expr, low: int, high: int) -> Expr:
        bits = next((b for b in (8, 16) if -(1 << (b - 1)) <= low and high < (1 << (b - 1))), 32)
        if bits < 32 and (low == -(1 << (bits - 1)) or high == (1 << (bits - 1)) - 1):
            value = self.saturate(value, bits)
            lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        else:
            lowest, highest = DTYPE_RANGE["s32"]
        if low > lowest:
            value = tir.tirx.max(value, tir.const(low))
        if high < highest:
            value = tir.tirx.min(value, tir.const(high))
        return value

    def _add(self, value: Expr, index: Expr | None) -> Expr:
        r = self.epilogue.residual
        assert r is not None
        assert index is not None
        constant, zero_point = residual_constants(self.epilogue, r)
        other = tir.cast("int32", tir.load(self.residual, index))
        total = value * r.a_multiplier + (other * r.b_multiplier + tir.const(constant))
        shifted = tir.tirx.op.shift_right(total, tir.const(r.shift))
        return self._clamp(shifted + zero_point if zero_point else shifted, r.low, r.high)
