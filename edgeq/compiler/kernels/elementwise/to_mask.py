"""ToMask: what isn't zero becomes 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, KernelSpec, Operand
from edgeq.compiler.kernels.nest import Nest, Split
from edgeq.compiler.target import Target


@dataclass(frozen=True)
class ToMaskSpec(KernelSpec):
    """`ToMask`: `one` where x isn't `x_zero`, else `zero`; operands `x`, `y`. All numbers as stored.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        x_dtype: any; dtype: u8 or s8.
    """

    family: ClassVar[str] = "to_mask"
    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    x_dtype: DType
    dtype: DType
    x_zero: int
    zero: int
    one: int

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: x, y."""
        return Nest.of(self.shape, self.x_strides, self.y_strides)

    def split(self) -> Split:
        """How the work is cut into tasks."""
        return self.nest.split(DTYPE_BYTES[self.x_dtype])

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("y", "output")]

    def tasks(self) -> int:
        return self.split().tasks

    def describe(self, target: Target) -> str:
        return f"to_mask_{self.x_dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.elementwise import to_mask_tir

        return to_mask_tir.to_mask(self, target)
