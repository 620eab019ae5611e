"""Embedding: rows of a constant table by computed indices, which are limited to the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Operand
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

INDEX_TYPES = ("s32", "s64")


@dataclass(frozen=True)
class LookupSpec(NestedSpec):
    """Rows of a table by computed indices.

    Attributes:
        shape: of the indices; index_strides, y_strides: over them.
        rows, width: of the table; a row of y is contiguous.
    """

    shape: tuple[int, ...]
    index_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    rows: int
    width: int

    @property
    def nest(self) -> Nest:
        """The rows: indices, y, with a last dimension of 1."""
        nest = Nest.of(self.shape, self.index_strides, self.y_strides)
        return Nest((*nest.shape, 1), tuple((*s, 0) for s in nest.strides))


@dataclass(frozen=True)
class EmbeddingSpec(LookupSpec):
    """`Embedding`; operands `table` (dense, as the lowering stored it), `indices`, `y`.

    Attributes:
        dtype: of table and y as stored; index_dtype: s32 or s64.
    """

    family: ClassVar[str] = "embedding"
    dtype: DType
    index_dtype: DType

    def __post_init__(self) -> None:
        # Offsets into the table are 32-bit.
        if self.index_dtype not in INDEX_TYPES or self.rows < 1 or self.rows * self.width >= 2**31:
            raise CompileError(
                "an embedding has an impossible form",
                why=f"{self.rows} rows of {self.width}, indices {self.index_dtype}",
            )

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def operands(self) -> list[Operand]:
        return [Operand("table", "input"), Operand("indices", "input"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"embedding_{self.dtype}_{self.width}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.movement import embedding_tir

        return embedding_tir.embedding(self, target)
