"""MatMul of two computed tensors, batched, with its Requantize (or s32 out)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, DType, Epilogue, KernelSpec, Operand
from edgeq.compiler.kernels.nest import Nest, Split
from edgeq.compiler.kernels.requantize import IntArray, Scales
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

ROWS = 4  # rows of a that share every load of b
Walk = Literal["columns", "dots", "elements"]


@dataclass(frozen=True)
class MatMulSpec(KernelSpec):
    """Σ over k of (a[…, m, k] − za)·(b[…, k, n] − zb), requantized.

    Operands: `a`, `b`, `params` (, `classes`) (, `table`), `y`.

    Attributes:
        batch: leading extents of the output; a_batch, b_batch, y_batch: strides over them, 0 broadcasts.
        m, k, n: extents; a_m, a_k, b_k, b_n, y_m, y_n: strides.
        a_dtype, b_dtype: s8 or u8 as stored; zero points in stored units.
        scales: `one`, or by output column; epilogue: as in RequantizeSpec.
    """

    family: ClassVar[str] = "matmul"
    batch: tuple[int, ...]
    a_batch: tuple[int, ...]
    b_batch: tuple[int, ...]
    y_batch: tuple[int, ...]
    m: int
    k: int
    n: int
    a_m: int
    a_k: int
    b_k: int
    b_n: int
    y_m: int
    y_n: int
    a_dtype: DType
    b_dtype: DType
    a_zero_point: int
    b_zero_point: int
    scales: Scales
    epilogue: Epilogue

    def __post_init__(self) -> None:
        if self.a_dtype not in ("s8", "u8") or self.b_dtype not in ("s8", "u8"):
            raise CompileError("a matrix product takes 8-bit inputs", why=f"{self.a_dtype} and {self.b_dtype}")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        k: int,
        a_strides: Sequence[int],
        b_strides: Sequence[int],
        y_strides: Sequence[int],
        a_dtype: DType,
        b_dtype: DType,
        a_zero_point: int,
        b_zero_point: int,
        epilogue: Epilogue,
        constants: dict[str, IntArray],
    ) -> MatMulSpec:
        """The spec for an output of `shape` [..., m, n].

        Args:
            a_strides: of a seen as [..., m, k]; b_strides: of b as [..., k, n]; y_strides: of y. All of y's rank, batch
                strides 0 where an input is broadcast.
            constants: multiplier and shift with 1 or n elements; empty for form `none`.
        """
        nest = Nest.of(shape[:-2], a_strides[:-2], b_strides[:-2], y_strides[:-2])
        (a_m, a_k), (b_k, b_n), (y_m, y_n) = a_strides[-2:], b_strides[-2:], y_strides[-2:]
        columns = Nest((shape[-1],), ((1,), (y_n,)))
        scales = Scales.of(columns, 0, constants.get("multiplier"), constants.get("shift"))
        a, b, y = nest.strides
        strides = {"a_m": a_m, "a_k": a_k, "b_k": b_k, "b_n": b_n, "y_m": y_m, "y_n": y_n}
        return cls(
            batch=nest.shape, a_batch=a, b_batch=b, y_batch=y, m=shape[-2], k=k, n=shape[-1], **strides,
            a_dtype=a_dtype, b_dtype=b_dtype, a_zero_point=a_zero_point, b_zero_point=b_zero_point,
            scales=scales, epilogue=epilogue,
        )  # fmt: skip

    @property
    def walk(self) -> Walk:
        """Vectors along the columns of b and y, along k, or none."""
        if self.b_n == 1 and self.y_n == 1 and self.scales.walk != "classes":
            return "columns"
        return "dots" if self.a_k == 1 and self.b_k == 1 else "elements"

    @property
    def nest(self) -> Nest:
        """Batches and blocks of rows: a, b, y."""
        rows = ROWS if self.walk == "columns" else 1
        sides = ((self.a_batch, self.a_m), (self.b_batch, 0), (self.y_batch, self.y_m))
        return Nest((*self.batch, -(-self.m // rows)), tuple((*s, rows * step) for s, step in sides))

    def split(self) -> Split:
        """One task for each block of rows."""
        rows = prod(self.nest.shape)
        return Split(len(self.nest.shape), rows, 1)

    def extents(self) -> tuple[int, int, int]:
        """Elements of a, b and y from the first to the last one touched."""
        sides = (
            (self.a_batch, (self.m, self.a_m), (self.k, self.a_k)),
            (self.b_batch, (self.k, self.b_k), (self.n, self.b_n)),
            (self.y_batch, (self.m, self.y_m), (self.n, self.y_n)),
        )
        a, b, y = (
            1 + sum((e - 1) * s for e, s in [*zip(self.batch, lead, strict=True), *rest]) for lead, *rest in sides
        )
        return a, b, y

    def operands(self) -> list[Operand]:
        table = [Operand("table", "weight")] if self.epilogue.lut else []
        inputs = [Operand("a", "input"), Operand("b", "input")]
        return [*inputs, *self.scales.operands(), *table, Operand("y", "output")]

    def tasks(self) -> int:
        return self.split().tasks

    def describe(self, target: Target) -> str:
        return f"matmul_{self.walk}_{self.a_dtype}{self.b_dtype}_{self.epilogue.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `classes`, `table` from multiplier, shift (as in the graph), table (stored units).

        Raises:
            CompileError: a sum could pass 32 bits.
        """
        corners = [
            self.k * (a - self.a_zero_point) * (b - self.b_zero_point)
            for a in DTYPE_RANGE[self.a_dtype]
            for b in DTYPE_RANGE[self.b_dtype]
        ]
        return self.scales.pack(self.epilogue, target, constants, min(corners), max(corners))

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels import matmul_tir

        return matmul_tir.matmul(self, target)
