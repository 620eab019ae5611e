"""Tables: any unary function of an 8-bit tensor (Lut), and of an s16 tensor by linear interpolation (LutInterp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Operand
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec, UnarySpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError


@dataclass(frozen=True)
class LutSpec(NestedSpec):
    """`Lut`: y = table[row · 256 + (x − lowest of x's stored type)]; operands `x`, `table` (weight), `y`.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        row_strides: table rows per step of each dimension: all 0 for one table, 1 on the channels for [C, 256].
        rows: rows of the table.
        x_dtype: u8 or s8 as stored; dtype: u8, s8 or s16 as stored.
    """

    family: ClassVar[str] = "lut"
    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    row_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    x_dtype: DType
    dtype: DType
    rows: int = 1

    def __post_init__(self) -> None:
        reach = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.row_strides, strict=True))
        if self.x_dtype not in ("u8", "s8") or self.dtype not in ("u8", "s8", "s16") or reach > self.rows:
            raise CompileError(
                "a table kernel contradicts itself",
                why=f"{self.x_dtype} to {self.dtype}, {self.rows} rows of which {reach} are read",
            )

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_dtype: DType,
        dtype: DType,
        axis: int | None = None,
    ) -> LutSpec:
        """The spec for one table, or for one row per index along `axis`."""
        rank = len(shape)
        rows = [0] * rank if axis is None else [int(d == axis % rank) for d in range(rank)]
        count = 1 if axis is None else shape[axis]
        return cls(tuple(shape), tuple(x_strides), tuple(rows), tuple(y_strides), x_dtype, dtype, count)

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: x, table (in entries), y."""
        table = tuple(256 * s for s in self.row_strides)
        return Nest.of(self.shape, self.x_strides, table, self.y_strides)

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("table", "weight"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"lut_{self.x_dtype}_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`table`: [256] or [rows, 256], entries in stored units, first entry for x's lowest value.

        Two-byte tables are laid out as all low bytes, then all high bytes, so that both halves can be byte lookups.

        Raises:
            CompileError: another number of entries.
        """
        table = np.asarray(constants["table"])
        if table.size != 256 * self.rows:
            raise CompileError("a table has the wrong size", why=f"shape {table.shape} for {self.rows} rows of 256")
        flat = np.ascontiguousarray(table.reshape(-1), NUMPY_DTYPE[self.dtype])
        if self.dtype == "s16":
            return {"table": np.ascontiguousarray(flat.astype("<i2").view(np.uint8).reshape(-1, 2).T).reshape(-1)}
        return {"table": flat.view(np.uint8)}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import lut_tir

        return lut_tir.lut(self, target)


@dataclass(frozen=True)
class LutInterpSpec(UnarySpec):
    """`LutInterp`: s16 through 513 points, then rshift, zero point, clamp; operands `x`, `table` (weight), `y`.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        dtype: s16, s8 or u8 as stored; shift, zero_point, low, high: of the op, in stored units.
    """

    family: ClassVar[str] = "lut_interp"
    dtype: DType
    shift: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        if not 0 <= self.shift <= 30:
            raise CompileError("an interpolated table's shift is out of range", why=f"{self.shift}, allowed 0 … 30")

    @property
    def element_work(self) -> int:
        return 2

    def operands(self) -> list[Operand]:
        return [Operand("x", "input"), Operand("table", "weight"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"lut_interp_s16_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`table`: s16 [513] in stored units -> s32 [512], table[j] | table[j + 1] << 16: one load brings both.

        Raises:
            CompileError: another number of entries.
        """
        table = np.asarray(constants["table"]).reshape(-1)
        if table.size != 513:
            raise CompileError("an interpolated table has the wrong size", why=f"{table.size} entries, not 513")
        points = table.astype(np.int16).view(np.uint16).astype(np.uint32)
        return {"table": (points[:-1] | points[1:] << 16).view(np.int32)}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import lut_tir

        return lut_tir.lut_interp(self, target)
