"""ResizeLinear: bilinear resizing of NHWC images with 11-bit weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DType, Image, KernelSpec, Operand
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.interpolation import COORDINATE_MODES, axis_weights


@dataclass(frozen=True)
class ResizeLinearSpec(KernelSpec):
    """`ResizeLinear`; operands `x`, `rows`, `columns` (weights), `y`.

    Attributes:
        x, y: images of the same n and c.
        mode: coordinate mode of the op.
        dtype: u8, s8 or s16 as stored (the weights sum to one, so that a stored bias of 128 survives).
    """

    family: ClassVar[str] = "resize_linear"
    x: Image
    y: Image
    mode: str
    dtype: DType

    def __post_init__(self) -> None:
        if (self.x.n, self.x.c) != (self.y.n, self.y.c) or self.dtype not in ("u8", "s8", "s16"):
            raise CompileError("a resize's images don't belong together", why=f"{self.x} and {self.y}, {self.dtype}")
        if self.mode not in COORDINATE_MODES:
            raise CompileError(f"unknown coordinate mode {self.mode!r}", hint=f"one of {', '.join(COORDINATE_MODES)}")

    def operands(self) -> list[Operand]:
        weights = [Operand("rows", "weight"), Operand("columns", "weight")]
        return [Operand("x", "input"), *weights, Operand("y", "output")]

    def tasks(self) -> int:
        """One for each output row."""
        return self.y.n * self.y.h

    def describe(self, target: Target) -> str:
        return f"resize_linear_{self.dtype}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`rows`, `columns`: s32 [3, out] = offset of the first tap, of the second one, weight of the second one."""
        packed = {}
        for name, size_in, size_out, stride in (
            ("rows", self.x.h, self.y.h, self.x.row_stride),
            ("columns", self.x.w, self.y.w, self.x.pixel_stride),
        ):
            taps = axis_weights(self.mode, size_in, size_out)
            packed[name] = np.stack([taps.first * stride, taps.second * stride, taps.weight]).astype(np.int32)
        return packed

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.spatial import resize_tir

        return resize_tir.resize_linear(self, target)
