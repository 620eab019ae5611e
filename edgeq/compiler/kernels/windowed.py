"""What convolutions share, dense and depthwise: images, window, epilogue. Plain data, no tvm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, DType, Epilogue, Image, KernelSpec
from edgeq.compiler.kernels.epilogue.epilogue import IntArray


@dataclass(frozen=True)
class WindowedSpec(KernelSpec):
    """A window of weights that slides over an image.

    Attributes:
        x: the input with its padding in it, (y.h − 1)·stride_h + (kh − 1)·dilation_h + 1 pixels high or more.
        y: the output, any strides.
        x_dtype: as stored: u8, s8 or s16.
        kh, kw: taps.
        epilogue: what happens to the accumulators.
        stride_h, stride_w, dilation_h, dilation_w: in pixels.
    """

    x: Image
    y: Image
    x_dtype: DType
    kh: int
    kw: int
    epilogue: Epilogue
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1

    @property
    def needed(self) -> tuple[int, int]:
        """Height and width of the padded input, in pixels, that the output's windows reach."""
        rows = (self.y.h - 1) * self.stride_h + (self.kh - 1) * self.dilation_h + 1
        return rows, (self.y.w - 1) * self.stride_w + (self.kw - 1) * self.dilation_w + 1

    @property
    def y_dtype(self) -> DType:
        """What is stored."""
        return "s32" if self.epilogue.form == "none" else self.epilogue.dtype

    @property
    def channels_per_output(self) -> int:
        """Input channels that an output channel sees."""
        raise NotImplementedError

    @property
    def macs(self) -> int:
        """Multiplications of one run."""
        return self.y.n * self.y.h * self.y.w * self.y.c * self.channels_per_output * self.kh * self.kw


def accumulator_bounds(taps: IntArray, bias: IntArray, x_dtype: str, x_zero_point: int) -> tuple[IntArray, IntArray]:
    """Interval of bias + Σ w·(x − zero point) per output channel, over every activation its dtype can hold.

    Args:
        taps: int64 [N, K].
        bias: int64 [N].
    """
    lowest, highest = (value - x_zero_point for value in DTYPE_RANGE[x_dtype])
    positive, negative = np.maximum(taps, 0).sum(1), np.minimum(taps, 0).sum(1)
    return bias + positive * lowest + negative * highest, bias + positive * highest + negative * lowest
