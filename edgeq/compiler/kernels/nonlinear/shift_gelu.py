"""ShiftGelu (elementwise) and ShiftGeluPaper (by row); the arithmetic is in edgeq/integer/shift_exp.py and
shift_gelu_paper.py. An 8-bit ShiftGelu depends on one byte alone: the lowering makes it a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, DType
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec, UnarySpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.shift_exp import OCTAVE_MAX, OCTAVE_MIN, ONE_BITS, ShiftGeluConstants
from edgeq.integer.shift_gelu_paper import OUT_BITS, ShiftGeluPaperConstants

IntArray = np.ndarray[Any, np.dtype[np.int64]]
HEAD = 15  # bits dropped from x·g for s16 x


SLOPE_BITS = 13
NEWTON_SHIFTS = (12, 8)
"""What the rest loses before it is multiplied, so that products stay in 32 bits."""


def reciprocal_line(octave: int) -> tuple[int, int]:
    """(start, slope): 2^30 / d ≈ start − (d·slope >> SLOPE_BITS) for d from one = 16·octave to 2·one, within 1/17."""
    one = (2 * octave) << ONE_BITS
    return round(2**30 / one * 24 / 17), round(2**30 / one**2 * 8 / 17 * 2**SLOPE_BITS)


def reciprocal_steps(d: IntArray, octave: int) -> list[IntArray]:
    """Every intermediate of the kernel's 2^30 // d, int64; the last one is the result."""
    start, slope = reciprocal_line(octave)
    steps = [d * slope, start - (d * slope >> SLOPE_BITS)]
    for shift in NEWTON_SHIFTS:
        y = steps[-1]
        rest = 2**30 - d * y
        product = (rest >> shift) * y
        steps += [d * y, rest, product, y + (product >> (30 - shift))]
    y = steps[-1]
    left = 2**30 - d * y
    return [*steps, left, y + 1 + ((left - d) >> 31)]


@dataclass(frozen=True)
class ShiftGeluSpec(UnarySpec):
    """`ShiftGelu` of s16 elements; operands `x`, `y`.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        dtype: of y, as stored; constants: attributes of the op; zero_point, low, high: in stored units.
    """

    family: ClassVar[str] = "shift_gelu"
    dtype: DType
    constants: ShiftGeluConstants
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        c = self.constants
        moved = (2**15 << c.left) + ((1 << c.pre_shift) >> 1)
        scaled = 2**15 * c.multiplier + ((1 << c.shift) >> 1)
        if not OCTAVE_MIN <= c.octave <= OCTAVE_MAX:
            raise CompileError("a shift GELU has an impossible octave", why=str(c))
        if c.head != HEAD or moved >= 2**31 or (moved >> c.pre_shift) * 3 >= 2**31 or scaled >= 2**31:
            raise CompileError("a shift GELU could pass 32 bits", why=str(c))

    @property
    def element_work(self) -> int:
        return 2

    def describe(self, target: Target) -> str:
        return f"shift_gelu_s16_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import shift_gelu_tir

        return shift_gelu_tir.shift_gelu(self, target)


@dataclass(frozen=True)
class ShiftGeluPaperSpec(NestedSpec):
    """`ShiftGeluPaper` over the last axis; operands `x`, `y`. Element by element: it is there for comparison only.

    Attributes:
        kept: shape without the last axis; x_kept, y_kept: strides over it.
        length, x_step, y_step: extent of the last axis and both strides along it.
        x_dtype, dtype: s8 or u8, and what y is stored as; constants: attributes of the op.
        x_zero_point, zero_point, low, high: in stored units.
    """

    family: ClassVar[str] = "shift_gelu_paper"
    kept: tuple[int, ...]
    x_kept: tuple[int, ...]
    y_kept: tuple[int, ...]
    length: int
    x_step: int
    y_step: int
    x_dtype: DType
    dtype: DType
    constants: ShiftGeluPaperConstants
    x_zero_point: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        widest = max(abs(value - self.x_zero_point) for value in DTYPE_RANGE[self.x_dtype])
        scaled = widest * ((1 << OUT_BITS) - 1) * self.constants.multiplier + ((1 << self.constants.shift) >> 1)
        if self.x_dtype not in ("s8", "u8") or scaled >= 2**31:
            raise CompileError("a shift GELU could pass 32 bits", why=f"{self.x_dtype}, {self.constants}")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_dtype: DType,
        dtype: DType,
        constants: ShiftGeluPaperConstants,
        x_zero_point: int,
        zero_point: int,
        low: int,
        high: int,
    ) -> ShiftGeluPaperSpec:
        """The spec for the last axis of strided views."""
        nest = Nest.of(shape[:-1], x_strides[:-1], y_strides[:-1])
        return cls(
            kept=nest.shape,
            x_kept=nest.strides[0],
            y_kept=nest.strides[1],
            length=shape[-1],
            x_step=x_strides[-1],
            y_step=y_strides[-1],
            x_dtype=x_dtype,
            dtype=dtype,
            constants=constants,
            x_zero_point=x_zero_point,
            zero_point=zero_point,
            low=low,
            high=high,
        )

    @property
    def nest(self) -> Nest:
        """Rows: x, y, with a last dimension of 1."""
        return Nest((*self.kept, 1), ((*self.x_kept, 0), (*self.y_kept, 0)))

    @property
    def element_work(self) -> int:
        return 1  # a row is never cut

    def describe(self, target: Target) -> str:
        return f"shift_gelu_paper_{self.x_dtype}_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import shift_gelu_tir

        return shift_gelu_tir.shift_gelu_paper(self, target)
