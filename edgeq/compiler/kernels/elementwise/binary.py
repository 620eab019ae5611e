"""Add, Max, Min of two quantized tensors, each with its own multiplier over one shift; Rescale, the one-sided form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, DType, Operand
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec, UnarySpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

INT32_MAX = 2**31 - 1


def check_output(dtype: DType, zero_point: int, low: int, high: int) -> None:
    """Refuses numbers that the output's type can't hold.

    Raises:
        CompileError: they don't fit, or the clamp is empty.
    """
    lowest, highest = DTYPE_RANGE[dtype]
    if dtype not in ("s8", "u8", "s16") or not (lowest <= low <= high <= highest and lowest <= zero_point <= highest):
        raise CompileError(
            "an elementwise kernel's output contradicts itself",
            why=f"{dtype}, zero point {zero_point}, clamp {low} … {high}",
        )


def largest_distance(dtype: DType, zero_point: int) -> int:
    """Largest |q − zero point| of a dtype."""
    low, high = DTYPE_RANGE[dtype]
    return max(abs(low - zero_point), abs(high - zero_point))


@dataclass(frozen=True)
class BinarySpec(NestedSpec):
    """`Add`, `Max`, `Min` of the integer dialect; operands `a`, `b` (input, or weight), `y`.

    add: clamp(zp + rshift((a − za)·ma + (b − zb)·mb, shift)); max, min: of the two sides, each rounded by itself, + zp.

    Attributes:
        op: what is computed.
        shape: extents of the output; a_strides, b_strides, y_strides: elements, 0 broadcasts.
        a_dtype, b_dtype, dtype: s8, u8 or s16 as stored; zero points, low and high in stored units.
        a_multiplier, b_multiplier: magnitude below 2^15, any sign; shift: in [0, 30].
        b_constant: `b` is a weight operand, packed from the constant `b` (stored units, flat, in b_strides' order).
    """

    family: ClassVar[str] = "binary"
    op: Literal["add", "max", "min"]
    shape: tuple[int, ...]
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    a_dtype: DType
    b_dtype: DType
    dtype: DType
    a_zero_point: int
    b_zero_point: int
    a_multiplier: int
    b_multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int
    b_constant: bool = False

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        multipliers = max(abs(self.a_multiplier), abs(self.b_multiplier))
        if self.bound > INT32_MAX or multipliers > 32767 or not 0 <= self.shift <= 30:
            raise CompileError(
                f"{self.op} could pass 32 bits",
                why=f"multipliers {self.a_multiplier}, {self.b_multiplier}, shift {self.shift}, sum up to {self.bound}",
            )

    @property
    def bound(self) -> int:
        """Largest magnitude of the sum before the shift, rounding included."""
        a = largest_distance(self.a_dtype, self.a_zero_point) * abs(self.a_multiplier)
        b = largest_distance(self.b_dtype, self.b_zero_point) * abs(self.b_multiplier)
        return a + b + ((1 << self.shift) >> 1)

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: a, b, y."""
        return Nest.of(self.shape, self.a_strides, self.b_strides, self.y_strides)

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def operands(self) -> list[Operand]:
        return [Operand("a", "input"), Operand("b", "weight" if self.b_constant else "input"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"{self.op}_{self.a_dtype}{self.b_dtype}_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"b": np.ascontiguousarray(constants["b"])} if self.b_constant else {}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.elementwise import binary_tir

        return binary_tir.binary(self, target)


@dataclass(frozen=True)
class RescaleSpec(UnarySpec):
    """`Rescale`: y = clamp(zp + rshift((x − zx)·multiplier, shift)); operands `x`, `y`.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        x_dtype, dtype: s8, u8 or s16 as stored; zero points, low and high in stored units.
        multiplier: in [1, 2^31); shift: in [0, 62]. The product has 64 bits where it needs them.
    """

    family: ClassVar[str] = "rescale"
    x_dtype: DType
    dtype: DType
    x_zero_point: int
    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        if not 1 <= self.multiplier <= INT32_MAX or not 0 <= self.shift <= 62:
            raise CompileError("rescale constants are out of range", why=f"{self.multiplier} · 2^−{self.shift}")

    @property
    def bound(self) -> int:
        """Largest magnitude of the product, rounding included."""
        distance = largest_distance(self.x_dtype, self.x_zero_point)
        return distance * self.multiplier + ((1 << self.shift) >> 1)

    @property
    def wide(self) -> bool:
        """Whether the product needs 64 bits (or a multiplier beyond 16)."""
        return self.bound > INT32_MAX or self.multiplier > 32767 or self.shift > 31

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def describe(self, target: Target) -> str:
        return f"rescale{'64' if self.wide else ''}_{self.x_dtype}_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.elementwise import binary_tir

        return binary_tir.rescale(self, target)
