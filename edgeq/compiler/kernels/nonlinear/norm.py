"""LayerNorm and RmsNorm over a contiguous last axis; the arithmetic is written down in edgeq/integer/normalization.py.

Zero points of stored values cancel in LayerNorm: adding b to every x adds n·b to S and b·r to M, and changes neither V
nor p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, DType, Operand
from edgeq.compiler.kernels.elementwise.binary import check_output
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.nested import ROWS, RowsSpec
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.normalization import FACTOR_MAX, MAX_EPSILON, MAX_LENGTH, factor_bound, row_bound

WORDS = 5  # s32 words a row keeps between the passes: S, W, c, root, unused


@dataclass(frozen=True)
class NormSpec(RowsSpec):
    """`LayerNorm` (kind layer) or `RmsNorm` (kind rms); operands `x`, `gamma` (, `beta`), `scratch`, `y`.

    Attributes:
        kept: shape without the last axis; x_kept, y_kept: strides over it.
        length: elements of the last axis, contiguous on both sides.
        x_dtype: s8, u8 or s16; dtype: the same of y, as stored.
        x_zero_point: in stored units; 0 for kind layer, where it cancels.
        epsilon, row_bits, fraction_bits, shift: attributes of the op; zero_point, low, high: in stored units.
    """

    family: ClassVar[str] = "norm"
    kind: Literal["layer", "rms"]
    kept: tuple[int, ...]
    x_kept: tuple[int, ...]
    y_kept: tuple[int, ...]
    length: int
    x_dtype: DType
    dtype: DType
    x_zero_point: int
    epsilon: int
    row_bits: int
    fraction_bits: int
    shift: int
    zero_point: int
    low: int
    high: int

    @property
    def inverse_bound(self) -> int:
        """Largest r of any row: V >= n − 1, the root is at most one too small, one is rounded."""
        root = isqrt(max(self.length - 1, 1) << 32)
        return ((self.length << self.row_bits) << 16) // root * 32769 // 32768 + 2

    def __post_init__(self) -> None:
        check_output(self.dtype, self.zero_point, self.low, self.high)
        drop = self.row_bits - self.fraction_bits
        fits = (
            1 <= self.length <= MAX_LENGTH
            and 0 <= drop < self.row_bits
            and 0 <= self.shift <= 30
            and 0 <= self.epsilon <= MAX_EPSILON
            and row_bound(self.length, self.row_bits) + ((1 << drop) >> 1) < 2**31
            and factor_bound(self.length, self.row_bits, self.fraction_bits) <= FACTOR_MAX
            and self.inverse_bound < 2**31
        )
        if not fits:
            raise CompileError(
                "a normalisation could pass 32 bits",
                why=f"{self.length} elements, {self.row_bits} row bits, {self.fraction_bits} fraction bits, "
                f"shift {self.shift}, epsilon {self.epsilon}",
            )
        if self.x_dtype not in ("s8", "u8", "s16") or (self.kind == "layer" and self.x_zero_point):
            raise CompileError(
                "a normalisation's input has an impossible form",
                why=f"{self.x_dtype} with zero point {self.x_zero_point}",
            )

    @classmethod
    def of(
        cls,
        kind: Literal["layer", "rms"],
        shape: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        x_dtype: DType,
        dtype: DType,
        x_zero_point: int = 0,
        *,
        epsilon: int,
        row_bits: int,
        fraction_bits: int,
        shift: int,
        zero_point: int,
        low: int,
        high: int,
    ) -> NormSpec:
        """The spec for the last axis of strided views.

        Raises:
            CompileError: the last axis isn't contiguous, or something could overflow.
        """
        if shape[-1] > 1 and (x_strides[-1], y_strides[-1]) != (1, 1):
            raise CompileError("a normalised axis isn't contiguous", why="the lowering copies such")
        nest = Nest.of(shape[:-1], x_strides[:-1], y_strides[:-1])
        return cls(
            kind=kind,
            kept=nest.shape,
            x_kept=nest.strides[0],
            y_kept=nest.strides[1],
            length=shape[-1],
            x_dtype=x_dtype,
            dtype=dtype,
            x_zero_point=x_zero_point,
            epsilon=epsilon,
            row_bits=row_bits,
            fraction_bits=fraction_bits,
            shift=shift,
            zero_point=zero_point,
            low=low,
            high=high,
        )

    @property
    def nest(self) -> Nest:
        """The canonical nest of the rows: x, y."""
        return Nest.of(self.kept, self.x_kept, self.y_kept)

    def operands(self) -> list[Operand]:
        weights = [Operand("gamma", "weight"), *([Operand("beta", "weight")] if self.kind == "layer" else [])]
        return [Operand("x", "input"), *weights, Operand("scratch", "scratch"), Operand("y", "output")]

    def scratch_bytes(self, target: Target) -> int:
        """What the passes hand on: a few words for each row of a block."""
        return 4 * WORDS * ROWS

    def channel_elements(self, target: Target) -> int:
        """Elements of the operands gamma and beta: whole steps of a row."""
        step = 2 * isa_of(target).lanes
        return -(-self.length // step) * step

    def describe(self, target: Target) -> str:
        return f"{self.kind}norm_{self.x_dtype}_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`gamma` and `beta` as s32, padded; beta holds the rounding of the last shift.

        Args:
            constants: gamma int32 [n], beta int32 [n] (kind layer).

        Raises:
            CompileError: a product with gamma plus beta could pass 32 bits.
        """
        gamma = np.asarray(constants["gamma"], np.int64).reshape(-1)
        beta = np.asarray(constants["beta"], np.int64).reshape(-1) if self.kind == "layer" else np.zeros_like(gamma)
        if gamma.shape != (self.length,) or beta.shape != gamma.shape:
            raise CompileError(
                "gamma and beta don't fit the normalised axis", why=f"{gamma.shape}, {beta.shape} for {self.length}"
            )
        most = factor_bound(self.length, self.row_bits, self.fraction_bits)
        half = (1 << self.shift) >> 1
        reach = np.abs(gamma) * most + np.abs(beta + half)
        if np.max(np.abs(gamma)) > FACTOR_MAX or np.max(reach) > DTYPE_RANGE["s32"][1]:
            raise CompileError(
                "gamma and beta of a normalisation could pass 32 bits",
                why=f"gamma up to {np.max(np.abs(gamma))}, a sum up to {np.max(reach)}",
            )
        padding = (0, self.channel_elements(target) - self.length)
        packed = {"gamma": np.pad(gamma, padding).astype(np.int32)}
        if self.kind == "layer":
            packed["beta"] = np.pad(beta + half, padding).astype(np.int32)
        return packed

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.nonlinear import norm_tir

        return norm_tir.norm(self, target)
