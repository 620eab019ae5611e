"""Requantizing outside of products: the op alone, and `Scales`, which pools, sums and elementwise products share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, DType, Epilogue, Operand
from edgeq.compiler.kernels.epilogue.epilogue import ChannelLayout, isa_of, pack_parameters
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import NestedSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import narrow_rounding

IntArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scales:
    """How multipliers and shifts are spread over an output.

    Attributes:
        walk: `one` for the tensor; `lanes`: one per element of the innermost dimension; `classes`: an index table says
            which of `distinct` ones an entry has.
        entries: elements of the multiplier tensor.
        distinct: different (multiplier, shift) pairs.
    """

    walk: Literal["one", "lanes", "classes"] = "one"
    entries: int = 1
    distinct: int = 1

    @classmethod
    def of(cls, nest: Nest, operand: int, multiplier: IntArray | None, shift: IntArray | None) -> Scales:
        """The cheapest walk for scales that the nest reads with the strides of `operand`."""
        if multiplier is None or shift is None or multiplier.size == 1:
            return cls()
        pairs = _pairs(multiplier, shift)
        distinct = len(np.unique(pairs, axis=0))
        if distinct == 1:
            return cls()
        strides = nest.strides[operand]
        if nest.vectorisable and strides[-1] == 1 and not any(strides[:-1]):
            return cls("lanes", len(pairs), distinct)
        return cls("classes", len(pairs), distinct)

    def breaks_vectors(self, nest: Nest, operand: int) -> bool:
        """Whether neighbours in the innermost dimension belong to different classes."""
        return self.walk == "classes" and nest.strides[operand][-1] != 0

    def layout(self, target: Target) -> ChannelLayout:
        """Layout of the operand `params`: channels in order, or every class in as many lanes as one group has."""
        width = 2 * isa_of(target).lanes
        return ChannelLayout(self.entries if self.walk == "lanes" else self.distinct * width, 2, natural=True)

    def operands(self) -> list[Operand]:
        """`params`, and the index table where there is one."""
        index = [Operand("classes", "weight")] if self.walk == "classes" else []
        return [Operand("params", "weight"), *index]

    def pack(
        self,
        epilogue: Epilogue,
        target: Target,
        constants: dict[str, IntArray],
        acc_low: int,
        acc_high: int,
    ) -> dict[str, IntArray]:
        """The weight operands.

        Args:
            constants: `multiplier`, `shift` (not for form `none`), `table` if the epilogue has one.
            acc_low, acc_high: bounds of the accumulators.

        Raises:
            CompileError: constants that don't fit the epilogue or this description.
        """
        extra = {"table": np.ascontiguousarray(constants["table"])} if epilogue.lut else {}
        layout = self.layout(target)
        zero = np.zeros(1, np.int64)
        if epilogue.form == "none":
            return extra | {
                "params": pack_parameters(epilogue, target, layout, zero, acc_low=acc_low, acc_high=acc_high)
            }
        pairs = _pairs(constants["multiplier"], constants["shift"])
        unique, classes = np.unique(pairs, axis=0, return_inverse=True)
        if self.walk != "lanes":
            if len(unique) != self.distinct or (self.walk == "classes" and len(pairs) != self.entries):
                raise CompileError(
                    "requantize constants changed after the kernel was chosen",
                    why=f"{len(unique)} different ones of {len(pairs)}, expected {self.distinct} of {self.entries}",
                )
            pairs = np.repeat(unique, 2 * isa_of(target).lanes, axis=0)
        multiplier, shift = pairs[:, 0], pairs[:, 1]
        extra["params"] = pack_parameters(
            epilogue, target, layout, zero, multiplier, shift, acc_low=acc_low, acc_high=acc_high
        )
        if self.walk == "classes":
            extra["classes"] = (classes.reshape(-1) * 2 * isa_of(target).lanes).astype(np.int32)
        return extra


def _pairs(multiplier: IntArray, shift: IntArray) -> IntArray:
    m, s = np.asarray(multiplier).reshape(-1), np.asarray(shift).reshape(-1)
    m, s = np.broadcast_arrays(m, s)
    return np.stack([m, s], axis=1).astype(np.int64)


def requantize_bounds(epilogue: Epilogue, constants: dict[str, IntArray]) -> tuple[int, int]:
    """The widest accumulators for which nothing overflows: the integer graph has proven at least that."""
    low, high = DTYPE_RANGE["s32"]
    if epilogue.form == "narrow":
        low, high = low >> epilogue.left, (high >> epilogue.left) - int(np.max(narrow_rounding(constants["shift"])))
    return low, high


@dataclass(frozen=True)
class RequantizeSpec(NestedSpec):
    """`Requantize` or `RequantizeNarrow` alone; operands `x`, `params` (, `classes`) (, `table`), `y`.

    Attributes:
        shape, x_strides, y_strides: as in BinarySpec.
        scale_strides: elements of the multiplier tensor per step of each dimension (0 where it is broadcast).
        scales: how the multipliers are spread, from `Scales.of`.
        epilogue: form, dtype, zero point, clamp, table; no residual.
        x_dtype: s32 (or narrower).
    """

    family: ClassVar[str] = "requantize"
    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    scale_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    scales: Scales
    epilogue: Epilogue
    x_dtype: DType = "s32"

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        x_strides: Sequence[int],
        scale_strides: Sequence[int],
        y_strides: Sequence[int],
        epilogue: Epilogue,
        constants: dict[str, IntArray],
        x_dtype: DType = "s32",
    ) -> RequantizeSpec:
        """The spec for these multipliers and shifts (`constants`: multiplier, shift)."""
        nest = Nest.of(shape, x_strides, scale_strides, y_strides)
        scales = Scales.of(nest, 1, constants.get("multiplier"), constants.get("shift"))
        x, scale, y = nest.strides
        scale = scale if scales.walk != "one" else (0,) * len(nest.shape)
        return cls(nest.shape, x, scale, y, scales, epilogue, x_dtype)

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: x, scales, y."""
        return Nest.of(self.shape, self.x_strides, self.scale_strides, self.y_strides)

    @property
    def element_work(self) -> int:
        return DTYPE_BYTES[self.x_dtype]

    def operands(self) -> list[Operand]:
        table = [Operand("table", "weight")] if self.epilogue.lut else []
        return [Operand("x", "input"), *self.scales.operands(), *table, Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"requantize_{self.epilogue.form}_{self.x_dtype}_{self.epilogue.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `classes`, `table` from multiplier, shift (as in the graph), table (stored units)."""
        return self.scales.pack(self.epilogue, target, constants, *requantize_bounds(self.epilogue, constants))

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.epilogue import requantize_tir

        return requantize_tir.requantize(self, target)


@dataclass(frozen=True)
class MulSpec(NestedSpec):
    """`Mul` with its Requantize (or s32 out); operands `a`, `b`, `params` (, `classes`) (, `table`), `y`.

    Attributes:
        shape, a_strides, b_strides, y_strides: as in BinarySpec.
        scale_strides, scales, epilogue: as in RequantizeSpec.
        a_dtype, b_dtype: s8, u8 or s16 as stored; zero points in stored units (s16: 0).
    """

    family: ClassVar[str] = "mul"
    shape: tuple[int, ...]
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    scale_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    scales: Scales
    epilogue: Epilogue
    a_dtype: DType
    b_dtype: DType
    a_zero_point: int
    b_zero_point: int

    def __post_init__(self) -> None:
        for dtype, zero in ((self.a_dtype, self.a_zero_point), (self.b_dtype, self.b_zero_point)):
            if dtype not in ("s8", "u8", "s16") or (dtype == "s16" and zero):
                raise CompileError("a product's input has an impossible form", why=f"{dtype}, zero point {zero}")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        a_strides: Sequence[int],
        b_strides: Sequence[int],
        scale_strides: Sequence[int],
        y_strides: Sequence[int],
        epilogue: Epilogue,
        constants: dict[str, IntArray],
        a_dtype: DType,
        b_dtype: DType,
        a_zero_point: int,
        b_zero_point: int,
    ) -> MulSpec:
        """The spec for these multipliers and shifts (`constants`: multiplier, shift; empty for form `none`)."""
        nest = Nest.of(shape, a_strides, b_strides, scale_strides, y_strides)
        scales = Scales.of(nest, 2, constants.get("multiplier"), constants.get("shift"))
        a, b, scale, y = nest.strides
        scale = scale if scales.walk != "one" else (0,) * len(nest.shape)
        return cls(nest.shape, a, b, scale, y, scales, epilogue, a_dtype, b_dtype, a_zero_point, b_zero_point)

    @property
    def nest(self) -> Nest:
        """The canonical loop nest: a, b, scales, y."""
        return Nest.of(self.shape, self.a_strides, self.b_strides, self.scale_strides, self.y_strides)

    @property
    def element_work(self) -> int:
        return 2

    def operands(self) -> list[Operand]:
        table = [Operand("table", "weight")] if self.epilogue.lut else []
        inputs = [Operand("a", "input"), Operand("b", "input")]
        return [*inputs, *self.scales.operands(), *table, Operand("y", "output")]

    def describe(self, target: Target) -> str:
        return f"mul_{self.a_dtype}{self.b_dtype}_{self.epilogue.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `classes`, `table` from multiplier, shift (as in the graph), table (stored units).

        Raises:
            CompileError: a product could pass 32 bits, with the rounding that `narrow` adds.
        """
        corners = [
            (a - self.a_zero_point) * (b - self.b_zero_point)
            for a in DTYPE_RANGE[self.a_dtype]
            for b in DTYPE_RANGE[self.b_dtype]
        ]
        return self.scales.pack(self.epilogue, target, constants, min(corners), max(corners))

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.epilogue import requantize_tir

        return requantize_tir.mul(self, target)
