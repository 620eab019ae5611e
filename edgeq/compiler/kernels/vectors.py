"""Small vector idioms of the elementwise families on top of an Isa: typed loads, finishing and storing. Imports tvm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeq.compiler.isa.base import Isa, lanes_of
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.base import DTYPE_RANGE, DType
from edgeq.compiler.kernels.epilogue.emit import store_lanes
from edgeq.compiler.kernels.tir import Expr

INT32_MAX = 2**31 - 1


def units(isa: Isa, lanes: int, valid: int) -> Iterator[tuple[int, int, int]]:
    """(start, width, valid) of the pieces in which `lanes` elements are computed: one group of s32 registers each."""
    width = min(lanes, 2 * isa.lanes)
    for start in range(0, valid, width):
        yield start, width, min(width, valid - start)


def load16(buffer: Expr, index: Expr, dtype: DType, step: int, lanes: int) -> Expr:
    """u8, s8 or s16 elements as s16 lanes: consecutive ones (step 1) or one in every lane (step 0)."""
    if step == 0:
        return tir.bind(tir.broadcast(tir.cast("int16", tir.load(buffer, index)), lanes))
    value = tir.vload(buffer, index, lanes)
    return tir.bind(value if dtype == "s16" else tir.cast(f"int16x{lanes}", value))


def load32(buffer: Expr, index: Expr, step: int, lanes: int, registers: int) -> list[Expr]:
    """Integers of any width as s32 registers in natural order."""
    if step == 0:
        return [tir.bind(tir.broadcast(tir.cast("int32", tir.load(buffer, index)), lanes))] * registers
    loads = [tir.vload(buffer, index + r * lanes, lanes) for r in range(registers)]
    return [tir.bind(tir.cast(f"int32x{lanes}", value)) for value in loads]


def folded(constant: int, zero_point: int, shift: int, bound: int) -> tuple[int, int]:
    """(constant, zero point) with the zero point moved in front of the shift where the sum still fits 32 bits.

    Args:
        constant: what is added before the shift; may lie outside 32 bits, sums wrap on the way.
        bound: largest magnitude of the finished sum without the zero point.
    """
    moved = zero_point << shift
    if bound + abs(moved) <= INT32_MAX:
        constant, zero_point = constant + moved, 0
    return (constant + 2**31) % 2**32 - 2**31, zero_point


def clamp16(isa: Isa, value: Expr, low: int, high: int, dtype: DType) -> Expr:
    """Clamps s16 lanes, as far as narrowing to `dtype` doesn't do it anyway."""
    lowest, highest = DTYPE_RANGE[dtype]
    if low > lowest:
        value = isa.smax(value, isa.splat(low, "int16", lanes_of(value)))
    if high < highest:
        value = isa.smin(value, isa.splat(high, "int16", lanes_of(value)))
    return value


def store16(isa: Isa, buffer: Expr, index: Expr, value: Expr, dtype: DType, valid: int) -> None:
    """Stores s16 lanes as `dtype`, saturated."""
    if dtype != "s16":
        value = isa.saturate8(value, dtype == "u8")
    store_lanes(buffer, index, value, valid)


def finish(
    isa: Isa, registers: Sequence[Expr], zero_point: int, low: int, high: int, dtype: DType, natural: bool = False
) -> Expr:
    """s32 registers of one group -> clamp(zero point + value) as s16 lanes in natural order.

    Args:
        natural: the registers are in natural order, else in the isa's pack order.
    """
    if zero_point and dtype == "s16":
        # A sum that leaves 16 bits may come back with the zero point: add it in 32.
        registers = [isa.add_saturating(r, isa.splat(zero_point, "int32", isa.lanes)) for r in registers]
        zero_point = 0
    value = isa.saturate16(registers, natural)
    if zero_point:
        value = isa.add_saturating(value, isa.splat(zero_point, "int16", lanes_of(value)))
    return clamp16(isa, value, low, high, dtype)
