"""The ceiling of a depthwise kernel's instructions: the same taps and product on images that stay in the first cache,
sums stored as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.compiler.kernels.base import DType, Epilogue, Image
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.depthwise.products import Sums

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

CHANNELS, ROWS, COLUMNS = 64, 2, 27  # 20 KB with 3×3 taps; room for every tile
IMAGES = 200  # all of them at one place: hides what a call costs


@dataclass(frozen=True)
class DepthwiseMix:
    """What decides a depthwise kernel's instructions.

    Attributes:
        x_dtype, sums: of the spec. kh, kw, stride_h, stride_w: of the window.
    """

    x_dtype: DType
    sums: Sums
    kh: int
    kw: int
    stride_h: int
    stride_w: int

    def kernel(self, target: Target) -> DepthwiseSpec:
        """What is timed."""
        height, width = (ROWS - 1) * self.stride_h + self.kh, (COLUMNS - 1) * self.stride_w + self.kw
        x = Image(IMAGES, height, width, CHANNELS, 0, width * CHANNELS, CHANNELS)
        y = Image(IMAGES, ROWS, COLUMNS, CHANNELS, 0, COLUMNS * CHANNELS, CHANNELS)
        plain = Epilogue("none", "s32", 0, 0, 0)
        return DepthwiseSpec(
            x, y, self.x_dtype, self.kh, self.kw, plain, self.stride_h, self.stride_w, sums=self.sums
        )  # fmt: skip

    def macs(self, target: Target) -> int:
        """Multiplications of one call."""
        return self.kernel(target).macs

    def constants(self) -> dict[str, np.ndarray]:
        """Weights that every product multiplies exactly."""
        w = np.zeros((CHANNELS, 1, self.kh, self.kw), np.int8)
        return {"w": w, "bias": np.zeros(CHANNELS, np.int32)}


def depthwise_entry(spec: DepthwiseSpec) -> dict[str, Any] | None:
    """A manifest's entry, as `peak.mix_entry`; None for dilated windows and several outputs a channel."""
    if (spec.dilation_h, spec.dilation_w, spec.multiplier_per_channel) != (1, 1, 1):
        return None
    mix = DepthwiseMix(spec.x_dtype, spec.sums, spec.kh, spec.kw, spec.stride_h, spec.stride_w)
    return {**asdict(mix), "multiplications": spec.macs}
