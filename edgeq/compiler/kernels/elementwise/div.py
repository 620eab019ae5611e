"""Div: the quotient of two quantized tensors, rounded half up, in 64 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.compiler.kernels.base import DType, Operand
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError


@dataclass(frozen=True)
class DivSpec(NestedSpec):
    """`Div` of the integer dialect; operands `a`, `b`, `y`. Element by element: no vector unit divides 64 bits.

    Attributes:
        shape, a_strides, b_strides, y_strides: as in BinarySpec.
        a_dtype, b_dtype, dtype: s8, u8 or s16 as stored; zero points, low and high in stored units.
        multiplier: in [1, 2^15); shift: in [0, 30].
    """

    family: ClassVar[str] = "div"
    shape: tuple[int, ...]
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    a_dtype: DType
    b_dtype: DType
    dtype: DType
    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        if not (1 <= self.multiplier < 2**15 and 0 <= self.shift <= 30):
            raise CompileError("division constants are out of range", why=f"{self.multiplier} · 2^−{self.shift}")

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: a, b, y."""
        return Nest.of(self.shape, self.a_strides, self.b_strides, self.y_strides)

    @property
    def element_work(self) -> int:
        return 16

    def operands(self) -> list[Operand]:
        return [Operand("a", "input"), Operand("b", "input"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"div_{self.a_dtype}{self.b_dtype}_{self.dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.elementwise import div_tir

        return div_tir.div(self, target)
