"""Softmax and Shiftmax over one axis, masked or not; the arithmetic is in edgeq/integer/exp2.py and shift_exp.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.compiler.kernels.base import DType, Operand
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import ROWS, RowsSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer import exp2, shift_exp
from edgeq.integer.exp2 import SoftmaxConstants
from edgeq.integer.shift_exp import ShiftmaxConstants


@dataclass(frozen=True)
class Mask:
    """Who takes part: elements whose mask isn't `zero`.

    Attributes:
        kept: strides over the rows; step: along the axis (0 broadcasts).
        dtype, zero: as stored.
    """

    kept: tuple[int, ...]
    step: int
    dtype: DType
    zero: int


@dataclass(frozen=True)
class SoftmaxSpec(RowsSpec):
    """`Softmax`, `Shiftmax` and their masked forms; operands `x` (, `mask`), `scratch`, `y`.

    Attributes:
        kept: shape without the axis; x_kept, y_kept: strides over it.
        length, x_step, y_step: extent of the axis and both strides along it.
        x_dtype: s8, u8, s16 or s32 as stored (zero points cancel); dtype: u8, s8 or s16 as stored.
        constants: attributes of the op; their type says which form it is.
        zero_point, low, high: in stored units.
        mask: None where all elements take part.
    """

    family: ClassVar[str] = "softmax"
    kept: tuple[int, ...]
    x_kept: tuple[int, ...]
    y_kept: tuple[int, ...]
    length: int
    x_step: int
    y_step: int
    x_dtype: DType
    dtype: DType
    constants: SoftmaxConstants | ShiftmaxConstants
    zero_point: int
    low: int
    high: int
    mask: Mask | None = None

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        c = self.constants
        if isinstance(c, SoftmaxConstants):
            fits = _fits_exp2(c)
            longest, sum_bits = exp2.MAX_LENGTH, (15, exp2.SUM_BITS_MAX)
        else:
            fits = _fits_shift(c)
            longest, sum_bits = shift_exp.MAX_LENGTH, (shift_exp.SUM_BITS_MIN, shift_exp.SUM_BITS_MAX)
        if not (
            fits
            and 1 <= self.length <= longest
            and sum_bits[0] <= c.sum_bits <= sum_bits[1]
            and self.length << c.sum_bits <= 2**30
            and 8 <= c.out_bits <= 15
        ):
            raise CompileError("a softmax could pass 32 bits", why=f"{self.length} elements, {c}")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        axis: int,
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_dtype: DType,
        dtype: DType,
        constants: SoftmaxConstants | ShiftmaxConstants,
        zero_point: int,
        low: int,
        high: int,
        mask: tuple[Sequence[int], DType, int] | None = None,
    ) -> SoftmaxSpec:
        """The spec for one axis of a strided view.

        Args:
            mask: (strides, dtype, what 0 is stored as) of the mask seen in x's shape.
        """
        axis %= len(shape)
        rest = [d for d in range(len(shape)) if d != axis]
        views = [x_strides, *([mask[0]] if mask else []), y_strides]
        nest = Nest.of([shape[d] for d in rest], *([s[d] for d in rest] for s in views))
        seen = Mask(nest.strides[1], mask[0][axis], mask[1], mask[2]) if mask else None
        return cls(
            kept=nest.shape,
            x_kept=nest.strides[0],
            y_kept=nest.strides[-1],
            length=shape[axis],
            x_step=x_strides[axis],
            y_step=y_strides[axis],
            x_dtype=x_dtype,
            dtype=dtype,
            constants=constants,
            zero_point=zero_point,
            low=low,
            high=high,
            mask=seen,
        )

    @property
    def nest(self) -> Nest:
        """The nest of the rows: x (, mask), y."""
        return Nest(self.kept, (self.x_kept, *([self.mask.kept] if self.mask else []), self.y_kept))

    @property
    def vectorised(self) -> bool:
        """Whether a row is walked in registers."""
        steps = self.mask is None or self.mask.step in (0, 1)
        return (self.x_step, self.y_step) == (1, 1) and self.length > 1 and steps

    def operands(self) -> list[Operand]:
        inputs = [Operand("x", "input"), *([Operand("mask", "input")] if self.mask else [])]
        return [*inputs, Operand("scratch", "scratch"), Operand("y", "output")]

    def scratch_bytes(self, target: Target) -> int:
        """v of a block's rows, u16, the rows' sums, and a row of the mask as words."""
        row = self.row_elements(target)
        return 2 * ROWS * row + 4 * ROWS + (4 * row if self.mask else 0)

    def row_elements(self, target: Target) -> int:
        """Elements of a row in scratch: whole registers."""
        step = target.vector_bytes // 2
        return -(-self.length // step) * step

    def describe(self, target: Target) -> str:
        form = "softmax" if isinstance(self.constants, SoftmaxConstants) else "shiftmax"
        return f"{'masked_' if self.mask else ''}{form}_{self.x_dtype}_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import softmax_tir

        return softmax_tir.softmax(self, target)


def _fits_exp2(c: SoftmaxConstants) -> bool:
    widest = (c.limit + ((1 << c.pre_shift) >> 1)) >> c.pre_shift
    return widest < 2**16 and widest * c.multiplier + ((1 << c.shift) >> 1) < 2**31


def _fits_shift(c: ShiftmaxConstants) -> bool:
    moved = (c.limit << c.left) + ((1 << c.pre_shift) >> 1)
    return moved < 2**31 and (moved >> c.pre_shift) * 3 < 2**32
