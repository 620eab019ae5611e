"""ScaledEmbedding: rows of a table of narrow numbers by computed indices, each row with its multiplier.

The table is stored in as few bits as hold it. A row is whole blocks of LANES bytes; byte i of a block holds, from its
lowest bits up, the elements i, i + LANES, i + 2·LANES … of the block, so that a shift and a mask make LANES of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Operand
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.movement.embedding import INDEX_TYPES, LookupSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.ops.scaled_embedding import SHIFT_MAX

LANES = 16  # of every target, so that one table serves all variants of an artifact
BITS = (1, 2, 4, 8)


@dataclass(frozen=True)
class ScaledEmbeddingSpec(LookupSpec):
    """`ScaledEmbedding`; operands `table`, `multiplier`, `indices`, `y`.

    Attributes:
        bits: of a stored number.
        index_dtype: s32 or s64; dtype: s8, u8 or s16 as stored.
        shift: of the op; zero_point, low, high: in stored units.
    """

    family: ClassVar[str] = "scaled_embedding"
    bits: int
    index_dtype: DType
    dtype: DType
    shift: int
    zero_point: int
    low: int
    high: int

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        fits = self.rows >= 1 and self.rows * self.row_bytes < 2**31  # offsets into the table are 32-bit
        if self.index_dtype not in INDEX_TYPES or self.bits not in BITS or not (fits and 0 <= self.shift <= SHIFT_MAX):
            raise CompileError(
                "an embedding has an impossible form",
                why=f"{self.rows} rows of {self.width} numbers of {self.bits} bits, indices {self.index_dtype}, "
                f"shift {self.shift}",
            )

    @property
    def parts(self) -> int:
        """Numbers in a byte."""
        return 8 // self.bits

    @property
    def blocks(self) -> int:
        """Blocks of a row."""
        return -(-self.width // (LANES * self.parts))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the table."""
        return self.blocks * LANES

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def operands(self) -> list[Operand]:
        weights = [Operand("table", "weight"), Operand("multiplier", "weight")]
        return [*weights, Operand("indices", "input"), Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"scaled_embedding_s{self.bits}_{self.dtype}_{self.width}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`table` and `multiplier` from table s8 [rows, width] and multiplier s16 [rows].

        Raises:
            CompileError: a number doesn't fit its bits.
        """
        table = np.asarray(constants["table"]).reshape(self.rows, self.width)
        if narrow.least_bits(table) > self.bits:
            raise CompileError(
                f"a number doesn't fit the {self.bits} bits that were planned for it",
                why=f"the table holds {table.min()} … {table.max()}",
            )
        padded = np.zeros((self.rows, self.blocks * self.parts * LANES), np.int8)
        padded[:, : self.width] = table
        groups = padded.reshape(self.rows, self.blocks * self.parts, LANES).transpose(1, 0, 2)
        packed = narrow.pack(groups, self.bits).transpose(1, 0, 2)
        return {"table": np.ascontiguousarray(packed), "multiplier": np.asarray(constants["multiplier"], np.int16)}

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.movement import scaled_embedding_tir

        return scaled_embedding_tir.scaled_embedding(self, target)
