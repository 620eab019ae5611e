"""Sums and maxima over any axes, ArgMax over one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, DType, Epilogue, Operand
from edgeq.compiler.kernels.epilogue.requantize import IntArray, Scales
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

Strides = Sequence[int]


def _axes(shape: Sequence[int], axes: Sequence[int]) -> tuple[list[int], list[int]]:
    """(kept, reduced) dimensions.

    Raises:
        CompileError: an axis doesn't exist, or comes twice.
    """
    rank = len(shape)
    reduced = sorted({a + rank if a < 0 else a for a in axes})
    if len(reduced) != len(axes) or any(not 0 <= a < rank for a in reduced):
        raise CompileError("a reduction's axes don't fit its input", why=f"axes {tuple(axes)} of shape {tuple(shape)}")
    return [d for d in range(rank) if d not in reduced], reduced


@dataclass(frozen=True)
class ReduceSpec(NestedSpec):
    """`ReduceSum` with its Requantize (or s32 out), or `ReduceMax`.

    Operands: `x`, for a sum `params` (, `classes`) (, `table`), `y`.

    Attributes:
        op: sum of (x − x_zero_point), or max of x as it is stored.
        kept: shape of the output without the reduced axes; x_kept, y_strides, scale_strides: strides of x, y and the
            multiplier tensor over it.
        reduced: shape of the reduced axes; x_reduced: strides of x over them.
        x_dtype: s8, u8, s16 or (for max) s32 as stored; x_zero_point: in stored units.
        scales, epilogue: as in RequantizeSpec; for max the epilogue is None and y has x's dtype.
    """

    family: ClassVar[str] = "reduce"
    op: Literal["sum", "max"]
    kept: tuple[int, ...]
    x_kept: tuple[int, ...]
    scale_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    reduced: tuple[int, ...]
    x_reduced: tuple[int, ...]
    x_dtype: DType
    x_zero_point: int = 0
    scales: Scales = field(default_factory=Scales)
    epilogue: Epilogue | None = None

    def __post_init__(self) -> None:
        dtypes = ("s8", "u8", "s16") if self.op == "sum" else ("s8", "u8", "s16", "s32")
        if (self.op == "sum") != (self.epilogue is not None) or self.x_dtype not in dtypes:
            raise CompileError("a reduction contradicts itself", why=f"{self.op} of {self.x_dtype}, {self.epilogue}")

    @classmethod
    def sums(
        cls,
        shape: Sequence[int],
        axes: Sequence[int],
        x_strides: Strides,
        y_strides: Strides,
        scale_strides: Strides,
        x_dtype: DType,
        x_zero_point: int,
        epilogue: Epilogue,
        constants: dict[str, IntArray],
    ) -> ReduceSpec:
        """A sum.

        Args:
            shape, x_strides: of x; axes: reduced ones.
            y_strides, scale_strides: one per dimension of x; those of reduced axes are ignored.
            constants: multiplier, shift; empty for form `none`.
        """
        kept, reduced = _axes(shape, axes)
        views = [[s[d] for d in kept] for s in (x_strides, scale_strides, y_strides)]
        nest = Nest.of([shape[d] for d in kept], *views)
        inner = Nest.of([shape[d] for d in reduced], [x_strides[d] for d in reduced])
        scales = Scales.of(nest, 1, constants.get("multiplier"), constants.get("shift"))
        scale = nest.strides[1] if scales.walk != "one" else (0,) * len(nest.shape)
        x, y = nest.strides[0], nest.strides[2]
        return cls(
            "sum", nest.shape, x, scale, y, inner.shape, inner.strides[0], x_dtype, x_zero_point, scales, epilogue
        )

    @classmethod
    def maxima(
        cls, shape: Sequence[int], axes: Sequence[int], x_strides: Strides, y_strides: Strides, x_dtype: DType
    ) -> ReduceSpec:
        """A maximum; arguments as in `sums`."""
        kept, reduced = _axes(shape, axes)
        nest = Nest.of([shape[d] for d in kept], *([s[d] for d in kept] for s in (x_strides, y_strides)))
        inner = Nest.of([shape[d] for d in reduced], [x_strides[d] for d in reduced])
        zero = (0,) * len(nest.shape)
        return cls("max", nest.shape, nest.strides[0], zero, nest.strides[1], inner.shape, inner.strides[0], x_dtype)

    @property
    def nest(self) -> Nest:
        """The canonical nest of the kept dimensions: x, scales, y."""
        return Nest.of(self.kept, self.x_kept, self.scale_strides, self.y_strides)

    @property
    def inner(self) -> Nest:
        """The canonical nest of the reduced dimensions: x."""
        return Nest.of(self.reduced, self.x_reduced)

    @property
    def across(self) -> bool:
        """Vectors run across outputs; else along the reduced axes."""
        nest = self.nest
        fits = nest.vectorisable and nest.inner_strides[0] == 1 and not self.scales.breaks_vectors(nest, 1)
        return fits and (nest.inner >= 8 or self.inner.inner_strides != (1,))

    @property
    def x_elements(self) -> int:
        """Elements of x from the first to the last one read."""
        return self.nest.extent(0) + self.inner.extent(0) - 1

    @property
    def element_work(self) -> int:
        return prod(self.reduced)

    def operands(self) -> list[Operand]:
        extra = self.scales.operands() if self.epilogue else []
        table = [Operand("table", "weight")] if self.epilogue and self.epilogue.lut else []
        return [Operand("x", "input"), *extra, *table, Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"reduce_{self.op}_{self.x_dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `classes`, `table` from multiplier, shift (as in the graph), table (stored units).

        Raises:
            CompileError: a sum could pass 32 bits.
        """
        if self.epilogue is None:
            return {}
        low, high = (prod(self.reduced) * (v - self.x_zero_point) for v in DTYPE_RANGE[self.x_dtype])
        return self.scales.pack(self.epilogue, target, constants, min(low, 0), max(high, 0))

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.spatial import reduce_tir

        return reduce_tir.reduce(self, target)


@dataclass(frozen=True)
class ArgMaxSpec(NestedSpec):
    """`ArgMax`: index of the largest element along one axis, as s64; operands `x`, `y`.

    Attributes:
        kept: shape without the axis; x_kept, y_strides: strides over it.
        length, step: extent of the axis and x's stride along it.
        x_dtype: s8, u8, s16 or s32 as stored.
        last: of equal elements the last one's index, else the first one's.
    """

    family: ClassVar[str] = "argmax"
    kept: tuple[int, ...]
    x_kept: tuple[int, ...]
    y_strides: tuple[int, ...]
    length: int
    step: int
    x_dtype: DType
    last: bool = False

    @classmethod
    def of(
        cls, shape: Sequence[int], axis: int, x_strides: Strides, y_strides: Strides, x_dtype: DType, last: bool = False
    ) -> ArgMaxSpec:
        """The spec; y_strides: one per dimension of x, the axis' own is ignored."""
        kept, (reduced,) = _axes(shape, [axis])
        nest = Nest.of([shape[d] for d in kept], *([s[d] for d in kept] for s in (x_strides, y_strides)))
        x, y = nest.strides
        return cls(nest.shape, x, y, shape[reduced], x_strides[reduced], x_dtype, last)

    @property
    def nest(self) -> Nest:
        """The canonical nest of the kept dimensions: x, y."""
        return Nest.of(self.kept, self.x_kept, self.y_strides)

    @property
    def element_work(self) -> int:
        return self.length * DTYPE_BYTES[self.x_dtype]

    def describe(self, target: Target) -> str:
        return f"argmax_{self.x_dtype}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.spatial import reduce_tir

        return reduce_tir.argmax(self, target)
