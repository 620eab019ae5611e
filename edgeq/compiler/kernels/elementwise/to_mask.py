"""ToMask: what isn't zero becomes 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType
from edgeq.compiler.kernels.nested import UnarySpec
from edgeq.compiler.target import Target


@dataclass(frozen=True)
class ToMaskSpec(UnarySpec):
    """`ToMask`: `one` where x isn't `x_zero`, else `zero`; operands `x`, `y`. All numbers as stored.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        x_dtype: any; dtype: u8 or s8.
    """

    family: ClassVar[str] = "to_mask"
    x_dtype: DType
    dtype: DType
    x_zero: int
    zero: int
    one: int

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.x_dtype]

    def describe(self, target: Target) -> str:
        return f"to_mask_{self.x_dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.elementwise import to_mask_tir

        return to_mask_tir.to_mask(self, target)
