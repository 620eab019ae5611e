"""From s32 accumulators to stored values, without tvm: parameter layout, width proofs and the NumPy reference.

The operand `params` holds int32 sections of P words (P = positions: channels padded to whole registers), one value per
accumulator lane in the order the kernel keeps its channels in:

    none     bias
    narrow   bias + 2^(shift−1) | shift + left | multiplier as s16, P/2 words, in natural channel order inside a group
    single   bias | sections of the instruction set (isa/*.py)

Sums that come in 16 bits have parameters of their own (words.py).

`bias` is where an accumulator starts, so a kernel that starts there has bias and rounding for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Operand, Residual
from edgeq.compiler.kernels.epilogue.words import pack_words
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import (
    INT32_MAX,
    INT32_MIN,
    NARROW_POST_MAX,
    NARROW_SHIFT_MIN,
    NARROW_SHIFT_SPAN,
    SINGLE_SHIFT_MAX,
    SINGLE_SHIFT_MIN,
    narrow_rounding,
    requantize_narrow,
    requantize_single,
    round_shift,
)

if TYPE_CHECKING:
    from edgeq.compiler.isa.base import Isa
    from edgeq.compiler.target import Target

IntArray = np.ndarray[Any, np.dtype[Any]]

NUMPY_DTYPE = {"s8": np.int8, "u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64}


def isa_of(target: Target) -> Isa:
    """The target's vector operations, from its inner.py."""
    isa: Isa = target.inner.ISA
    return isa


@dataclass(frozen=True)
class ChannelLayout:
    """How channels lie in accumulator registers: blocks of `vectors` registers, the last one smaller.

    Attributes:
        channels: real ones.
        vectors: registers of a full block.
        natural: lanes in channel order; else in the order that narrowing wants (Isa.order).
    """

    channels: int
    vectors: int
    natural: bool = False

    def blocks(self, isa: Isa) -> list[tuple[int, int]]:
        """(first position, registers) of every block."""
        total = -(-self.channels // isa.lanes)
        starts = range(0, total, self.vectors)
        return [(start * isa.lanes, min(self.vectors, total - start)) for start in starts]

    def positions(self, isa: Isa) -> int:
        """Channels rounded up to whole registers."""
        return -(-self.channels // isa.lanes) * isa.lanes

    def channel_of(self, isa: Isa) -> IntArray:
        """int64 [positions]: the channel in each lane; may be >= channels (padding)."""
        result = np.arange(self.positions(isa))
        if not self.natural:
            for start, vectors in self.blocks(isa):
                result[start : start + vectors * isa.lanes] = start + np.array(isa.order(vectors))
        return result

    def spread(self, isa: Isa, values: IntArray, fill: int) -> IntArray:
        """Values by channel -> by lane; padding lanes get `fill`."""
        padded = np.full(self.positions(isa), fill, np.int64)
        padded[: self.channels] = values
        return padded[self.channel_of(isa)]


def parameter_words(epilogue: Epilogue, target: Target, layout: ChannelLayout) -> int:
    """int32 elements of the operand `params`."""
    isa = isa_of(target)
    positions = layout.positions(isa)
    if epilogue.form == "none":
        return positions
    if epilogue.words:
        return len(epilogue.words) * positions // 2
    if epilogue.form == "narrow":
        return 2 * positions + positions // 2
    probe = np.zeros(isa.lanes, np.int64)
    sections = isa.single_sections(probe + 2**30, probe + 40, probe, probe)
    return positions * (1 + sum(len(section) for section in sections) // isa.lanes)


def pack_parameters(
    epilogue: Epilogue,
    target: Target,
    layout: ChannelLayout,
    bias: IntArray,
    multiplier: IntArray | None = None,
    shift: IntArray | None = None,
    *,
    acc_low: IntArray | int,
    acc_high: IntArray | int,
    where: str | None = None,
) -> IntArray:
    """The operand `params`, int32 [parameter_words].

    Args:
        bias: [channels], what an accumulator starts with; the zero-point term −zx·Σw is the caller's part of it.
        multiplier, shift: [channels] or one element, as the ops Requantize / RequantizeNarrow have them.
        acc_low, acc_high: bounds of the finished accumulators (bias included), per channel or one for all.
        where: name for messages.

    Raises:
        CompileError: an accumulator or an intermediate could leave 32 bits, or a constant is outside its range.
    """
    isa, channels = isa_of(target), layout.channels
    check_width(epilogue, shift, acc_low, acc_high, where)
    start = np.broadcast_to(np.asarray(bias, np.int64), (channels,))
    if epilogue.form == "none":
        return layout.spread(isa, wrapped(start), 0).astype(np.int32)
    if multiplier is None or shift is None:
        raise CompileError("requantize constants are missing", where=where, why="the epilogue has multiplier and shift")
    m = np.broadcast_to(np.asarray(multiplier, np.int64).reshape(-1), (channels,))
    s = np.broadcast_to(np.asarray(shift, np.int64).reshape(-1), (channels,))
    check_constants(epilogue, m, s, where)
    if epilogue.words:
        return pack_words(
            epilogue, *(layout.spread(isa, values, fill) for values, fill in ((start, 0), (m, 1), (s, 0)))
        )
    if epilogue.form == "narrow":
        start = start + narrow_rounding(s)
        natural = ChannelLayout(channels, layout.vectors, natural=True).spread(isa, m, 0)
        sections = [
            isa.shift_parameters(layout.spread(isa, s + epilogue.left, 0)),
            natural.astype("<i2").view("<i4"),
        ]
    else:
        low, high = useful_range(epilogue, m, s)
        spread = [layout.spread(isa, v, fill) for v, fill in ((m, 2**30), (s, 62), (low, 0), (high, 0))]
        sections = isa.single_sections(*spread)
    first = layout.spread(isa, wrapped(start), 0)
    return np.concatenate([first, *sections]).astype(np.int32)


def wrapped(values: IntArray) -> IntArray:
    """Modulo 2^32: an accumulator may start outside 32 bits as long as it ends inside, additions wrap on the way."""
    return (np.asarray(values, np.int64) + 2**31) % 2**32 - 2**31


def check_constants(epilogue: Epilogue, m: IntArray, s: IntArray, where: str | None) -> None:
    m_low, m_bits, s_low, s_high = 2**30, 31, SINGLE_SHIFT_MIN, SINGLE_SHIFT_MAX
    if epilogue.form == "narrow":
        m_low, m_bits, s_low, s_high = 1, 15, -epilogue.left, NARROW_SHIFT_SPAN - epilogue.left
    if m.min() < m_low or m.max() >= 2**m_bits or s.min() < s_low or s.max() > s_high:
        raise CompileError(
            f"requantize constants are outside the {epilogue.form} form",
            where=where,
            why=f"multipliers {m.min()} … {m.max()} (allowed {m_low} … 2^{m_bits} − 1), "
            f"shifts {s.min()} … {s.max()} (allowed {s_low} … {s_high})",
        )


def check_width(
    epilogue: Epilogue,
    shift: IntArray | None,
    acc_low: IntArray | int,
    acc_high: IntArray | int,
    where: str | None,
) -> None:
    """Proves that nothing leaves its width: accumulators (with the rounding term of `narrow`) and the residual's sum.

    Raises:
        CompileError: it fails, or the epilogue's own numbers don't fit its dtype.
    """
    low, high = np.min(acc_low), np.max(acc_high)
    if epilogue.form == "narrow" and shift is not None:
        half = narrow_rounding(np.asarray(shift).reshape(-1))
        high = max(high, np.max(np.asarray(acc_high, np.int64) + half))
        low, high = low << epilogue.left, high << epilogue.left
    if low < INT32_MIN or high > INT32_MAX:
        raise CompileError(
            "an accumulator could pass 32 bits",
            where=where,
            why=f"its interval is {low} … {high}",
            hint="use smaller weights or biases, or split the layer's input channels",
        )
    if epilogue.form == "none":
        return
    lowest, highest = DTYPE_RANGE[epilogue.dtype]
    numbers = (epilogue.zero_point, epilogue.low, epilogue.high)
    eight = epilogue.dtype in ("u8", "s8")
    if (
        min(numbers) < lowest
        or max(numbers) > highest
        or epilogue.low > epilogue.high
        or not 0 <= epilogue.post_shift <= NARROW_POST_MAX
        or not 0 <= epilogue.left <= -NARROW_SHIFT_MIN
        or epilogue.dtype not in ("u8", "s8", "s16")
        or (not eight and (epilogue.form == "narrow" or epilogue.lut))
    ):
        raise CompileError(
            "the epilogue contradicts itself",
            where=where,
            why=f"{epilogue.form} to {epilogue.dtype}, zero point {epilogue.zero_point}, clamp {epilogue.low} … "
            f"{epilogue.high}, post shift {epilogue.post_shift}, left {epilogue.left}, table {epilogue.lut}",
        )
    if epilogue.residual is not None:
        residual_constants(epilogue, epilogue.residual, where)


def residual_constants(epilogue: Epilogue, residual: Residual, where: str | None = None) -> tuple[int, int]:
    """(constant, zero point): clamp(zero point + ((a·ma + b·mb + constant) >> shift)) is the residual add.

    The constant holds rounding, both zero points and, where 32 bits allow it, the output's zero point.

    Raises:
        CompileError: the sum could pass 32 bits.
    """
    r = residual
    a_low, a_high = DTYPE_RANGE[epilogue.dtype] if epilogue.lut else (epilogue.low, epilogue.high)
    b_low, b_high = DTYPE_RANGE[r.dtype]
    half = (1 << r.shift) >> 1
    a_bound = max(abs(a_low - r.a_zero_point), abs(a_high - r.a_zero_point)) * abs(r.a_multiplier)
    b_bound = max(abs(b_low - r.b_zero_point), abs(b_high - r.b_zero_point)) * abs(r.b_multiplier)
    bound = a_bound + b_bound + half
    scaled = r.zero_point << r.shift
    folds = bound + abs(scaled) <= INT32_MAX
    multipliers = max(abs(r.a_multiplier), abs(r.b_multiplier))
    if bound > INT32_MAX or multipliers > 32767 or not 0 <= r.shift <= 30 or not (folds or r.shift):
        raise CompileError(
            "a residual add could pass 32 bits",
            where=where,
            why=f"multipliers {r.a_multiplier} and {r.b_multiplier}, shift {r.shift}, sum up to {bound}",
        )
    constant = half - r.a_zero_point * r.a_multiplier - r.b_zero_point * r.b_multiplier
    return int(wrapped(np.int64(constant + (scaled if folds else 0)))), 0 if folds else r.zero_point


def useful_range(epilogue: Epilogue, m: IntArray, s: IntArray) -> tuple[IntArray, IntArray]:
    """Per channel (low, high): clamping the accumulator to them can't change the clamped result (it is monotone)."""
    low, high = [], []
    for multiplier, shift in zip(m.tolist(), s.tolist(), strict=True):
        half = 1 << (shift - 1)
        top = epilogue.high - epilogue.zero_point
        bottom = epilogue.low - epilogue.zero_point
        high.append(-(-((top << shift) - half) // multiplier))
        low.append((((bottom + 1) << shift) - half - 1) // multiplier)
    clip = [np.array([min(max(v, INT32_MIN), INT32_MAX) for v in values], np.int64) for values in (low, high)]
    return clip[0], clip[1]


def reference(
    epilogue: Epilogue,
    acc: IntArray,
    multiplier: IntArray | None = None,
    shift: IntArray | None = None,
    table: IntArray | None = None,
    residual: IntArray | None = None,
) -> IntArray:
    """The same in NumPy, op by op.

    Args:
        acc: finished accumulators [..., channels], integers.
        multiplier, shift: [channels] or one element.
        table: [256] of the epilogue's dtype, for `lut`.
        residual: the second input of the add, shaped like acc.
    """
    dtype = NUMPY_DTYPE[epilogue.dtype]
    if epilogue.form == "none" or multiplier is None or shift is None:
        return acc.astype(np.int32)
    limits = (epilogue.zero_point, epilogue.low, epilogue.high)
    if epilogue.form == "narrow":
        value = requantize_narrow(acc, multiplier, shift, epilogue.post_shift, *limits, dtype)
    else:
        value = requantize_single(acc, multiplier, shift, *limits, dtype)
    if epilogue.lut and table is not None:
        value = table.reshape(-1)[value.astype(np.int64) - DTYPE_RANGE[epilogue.dtype][0]]
    r = epilogue.residual
    if r is not None and residual is not None:
        a = (value.astype(np.int64) - r.a_zero_point) * r.a_multiplier
        b = (residual.astype(np.int64) - r.b_zero_point) * r.b_multiplier
        value = np.clip(round_shift(a + b, r.shift) + r.zero_point, r.low, r.high).astype(dtype)
    return value


def dense_operands(epilogue: Epilogue) -> list[Operand]:
    """Operands of a kernel that multiplies with packed weights and ends with `epilogue`."""
    result = [Operand("x", "input"), Operand("w", "weight"), Operand("params", "weight")]
    if epilogue.lut:
        result.append(Operand("table", "weight"))
    if epilogue.residual is not None:
        result.append(Operand("residual", "input"))
    return [*result, Operand("y", "output"), Operand("scratch", "scratch")]
