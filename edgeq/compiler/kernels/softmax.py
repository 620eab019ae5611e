"""Softmax by powers of two over one axis; the arithmetic is written down in edgeq/integer/exp2.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DType, KernelSpec, Operand
from edgeq.compiler.kernels.binary import check_output
from edgeq.compiler.kernels.nest import Nest, Split
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.exp2 import MAX_LENGTH, SUM_BITS_MAX, SoftmaxConstants

ROWS = 8  # rows done together, pass by pass, so that one row's reductions and division hide behind the next row's


@dataclass(frozen=True)
class SoftmaxSpec(KernelSpec):
    """`Softmax`; operands `x`, `scratch`, `y`.

    Attributes:
        kept: shape without the axis; x_kept, y_kept: strides over it.
        length, x_step, y_step: extent of the axis and both strides along it.
        x_dtype: s8, u8, s16 or s32 as stored (zero points cancel); dtype: u8, s8 or s16 as stored.
        limit … out_bits: attributes of the op; zero_point, low, high: in stored units.
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
    limit: int
    pre_shift: int
    multiplier: int
    shift: int
    sum_bits: int
    out_bits: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        widest = (self.limit + ((1 << self.pre_shift) >> 1)) >> self.pre_shift
        product = widest * self.multiplier + ((1 << self.shift) >> 1)
        if not (
            1 <= self.length <= MAX_LENGTH
            and 15 <= self.sum_bits <= SUM_BITS_MAX
            and self.length << self.sum_bits <= 2**30
            and 8 <= self.out_bits <= 15
            and widest < 2**16
            and product < 2**31
        ):
            raise CompileError(
                "a softmax could pass 32 bits",
                why=f"{self.length} elements, sum_bits {self.sum_bits}, scaled differences up to {product}",
            )

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        axis: int,
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_dtype: DType,
        dtype: DType,
        constants: SoftmaxConstants,
        zero_point: int,
        low: int,
        high: int,
    ) -> SoftmaxSpec:
        """The spec for one axis of a strided view."""
        axis %= len(shape)
        rest = [d for d in range(len(shape)) if d != axis]
        nest = Nest.of([shape[d] for d in rest], *([s[d] for d in rest] for s in (x_strides, y_strides)))
        return cls(
            kept=nest.shape,
            x_kept=nest.strides[0],
            y_kept=nest.strides[1],
            length=shape[axis],
            x_step=x_strides[axis],
            y_step=y_strides[axis],
            x_dtype=x_dtype,
            dtype=dtype,
            **constants.attributes(),
            zero_point=zero_point,
            low=low,
            high=high,
        )

    @property
    def nest(self) -> Nest:
        """The canonical nest of the rows: x, y."""
        return Nest.of(self.kept, self.x_kept, self.y_kept)

    @property
    def blocks(self) -> Nest:
        """Blocks of ROWS rows (and a last dimension of 1)."""
        return self.nest.blocked(ROWS)

    def split(self) -> Split:
        """How the work is cut into tasks: a block is never cut."""
        return self.blocks.split(1)

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("scratch", "scratch"), Operand("y", "output")]

    def tasks(self) -> int:
        return self.split().tasks

    def scratch_bytes(self, target: Target) -> int:
        """v of a block's rows, u16, and the rows' sums."""
        return 2 * ROWS * self.row_elements(target) + 4 * ROWS

    def row_elements(self, target: Target) -> int:
        """Elements of a row in scratch: whole registers."""
        step = target.vector_bytes // 2
        return -(-self.length // step) * step

    def describe(self, target: Target) -> str:
        return f"softmax_{self.x_dtype}_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels import softmax_tir

        return softmax_tir.softmax(self, target)
