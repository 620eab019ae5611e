"""Pooling over NHWC images: MaxPool with clipped windows, SumPool with its requantize (AveragePool)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_BYTES, DTYPE_RANGE, DType, Epilogue, Image, KernelSpec, Operand
from edgeq.compiler.kernels.epilogue.requantize import IntArray, Scales
from edgeq.compiler.kernels.nest import TASKS_WANTED, Nest, image_strides
from edgeq.compiler.target import Target
from edgeq.errors import CompileError

DIRECT_TAPS = 9  # larger windows are split into a column pass and a row pass


@dataclass(frozen=True)
class Window:
    """Geometry of a pooling window.

    Attributes:
        kh, kw: taps; stride_h, stride_w, dilation_h, dilation_w: in pixels.
        pad_top, pad_left: virtual pixels in front of the image; what lies outside takes no part.
    """

    kh: int
    kw: int
    stride_h: int = 1
    stride_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    dilation_h: int = 1
    dilation_w: int = 1

    def axis(self, vertical: bool) -> tuple[int, int, int, int]:
        """(taps, stride, pad, dilation) of one axis."""
        if vertical:
            return self.kh, self.stride_h, self.pad_top, self.dilation_h
        return self.kw, self.stride_w, self.pad_left, self.dilation_w

    def misses(self, vertical: bool, size: int, out: int) -> bool:
        """Whether any of `out` windows along an axis holds no pixel of an image that is `size` pixels long."""
        taps, stride, pad, dilation = self.axis(vertical)
        starts = (index * stride - pad for index in range(out))
        return any(not any(0 <= start + k * dilation < size for k in range(taps)) for start in starts)


def check_images(x: Image, y: Image) -> None:
    """Raises CompileError for images that don't belong together."""
    if (x.n, x.c) != (y.n, y.c):
        raise CompileError("a pool's images don't belong together", why=f"{x} and {y}")


@dataclass(frozen=True)
class MaxPoolSpec(KernelSpec):
    """Largest value of each window, clipped at the image's borders; operands `x`, `y` (, `scratch` for large windows).
    A window without a pixel gives the dtype's lowest value.

    Attributes:
        x, y: images without padding.
        window: geometry.
        dtype: u8, s8 or s16 as stored.
    """

    family: ClassVar[str] = "max_pool"
    x: Image
    y: Image
    window: Window
    dtype: DType

    def __post_init__(self) -> None:
        check_images(self.x, self.y)

    @property
    def separable(self) -> bool:
        """Whether columns are reduced first, into a scratch row."""
        return self.window.kh * self.window.kw > DIRECT_TAPS

    def operands(self) -> list[Operand]:
        scratch = [Operand("scratch", "scratch")] if self.separable else []
        return [Operand("x", "input"), *scratch, Operand("y", "output")]

    def tasks(self) -> int:
        """One for each output row."""
        return self.y.n * self.y.h

    def scratch_bytes(self, target: Target) -> int:
        """One row of the image and a vector that loads may run over."""
        return self.x.w * self.x.c * DTYPE_BYTES[self.dtype] + 64 if self.separable else 0

    def describe(self, target: Target) -> str:
        return f"max_pool_{self.dtype}_{self.window.kh}x{self.window.kw}"

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.spatial import pool_tir

        return pool_tir.max_pool(self, target)


@dataclass(frozen=True)
class SumPoolSpec(KernelSpec):
    """`SumPool` with its Requantize (or s32 out); operands `x`, `params` (, `classes`) (, `table`), `y`.

    Attributes:
        x, y: images without padding.
        window: geometry; pixels outside count 0 after the zero point is taken off.
        x_dtype: u8, s8 or s16 as stored; x_zero_point: in stored units.
        scale_strides: elements of the multiplier tensor per step of (n, h, w, c).
        scales, epilogue: as in RequantizeSpec.
    """

    family: ClassVar[str] = "sum_pool"
    x: Image
    y: Image
    window: Window
    x_dtype: DType
    x_zero_point: int
    scale_strides: tuple[int, int, int, int]
    scales: Scales
    epilogue: Epilogue

    def __post_init__(self) -> None:
        check_images(self.x, self.y)

    @classmethod
    def of(
        cls,
        x: Image,
        y: Image,
        window: Window,
        x_dtype: DType,
        x_zero_point: int,
        scale_strides: tuple[int, int, int, int],
        epilogue: Epilogue,
        constants: dict[str, IntArray],
    ) -> SumPoolSpec:
        """The spec for these multipliers and shifts (`constants`: multiplier, shift; empty for form `none`)."""
        nest = Nest((y.n, y.h, y.w, y.c), (scale_strides, image_strides(y)))
        scales = Scales.of(nest, 0, constants.get("multiplier"), constants.get("shift"))
        if scales.walk == "one":
            scale_strides = (0, 0, 0, 0)
        if scales.walk == "classes" and scale_strides[3]:
            raise CompileError(
                "a pool's multipliers vary over channels and positions",
                why=f"strides {scale_strides}",
                hint="requantize in a step of its own",
            )
        return cls(x, y, window, x_dtype, x_zero_point, scale_strides, scales, epilogue)

    @property
    def chunks(self) -> int:
        """Pieces of the channels, where there are few output rows to share among threads."""
        rows = self.y.n * self.y.h
        return 1 if rows >= TASKS_WANTED else max(1, min(-(-TASKS_WANTED // rows), self.y.c // 64))

    def operands(self) -> list[Operand]:
        table = [Operand("table", "weight")] if self.epilogue.lut else []
        return [Operand("x", "input"), *self.scales.operands(), *table, Operand("y", "output")]

    def tasks(self) -> int:
        """Output rows times pieces of the channels."""
        return self.y.n * self.y.h * self.chunks

    def describe(self, target: Target) -> str:
        return f"sum_pool_{self.x_dtype}_{self.epilogue.dtype}_{self.window.kh}x{self.window.kw}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `classes`, `table` from multiplier, shift (as in the graph), table (stored units).

        Raises:
            CompileError: a sum could pass 32 bits.
        """
        count = self.window.kh * self.window.kw
        low, high = (count * (v - self.x_zero_point) for v in DTYPE_RANGE[self.x_dtype])
        return self.scales.pack(self.epilogue, target, constants, min(low, 0), max(high, 0))

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.spatial import pool_tir

        return pool_tir.sum_pool(self, target)
