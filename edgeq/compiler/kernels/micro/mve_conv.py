"""Dense convolution for Cortex-M with integer vectors (MVE): vmlava adds sixteen products of bytes to one sum.

A tile is three pixels and two channels, or one pixel and six channels: the six sums live in the even registers that
vmlava takes (cpp_runtime/static/mve_dot.S). Exact for all activations and weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.epilogue.scalar import pack_records
from edgeq.compiler.kernels.micro.tiled_conv import SUMS, TiledConvSpec

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

LANES = 16


@dataclass(frozen=True)
class MveConvSpec(TiledConvSpec):
    """A convolution by vectors of sixteen k."""

    family: ClassVar[str] = "mve_conv"
    pixels: ClassVar[int] = 3
    channels: ClassVar[int] = 2
    single_channels: ClassVar[int] = 6
    step: ClassVar[int] = LANES

    def scratch_bytes(self, target: Target) -> int:
        """The tile's sums, then its activations."""
        return 4 * SUMS + self.depth * self.tile

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands from the constants of `ConvSpec.pack`.

        Raises:
            CompileError: an accumulator could overflow, or a constant is outside its range.
        """
        taps, start, low, high = self.flat_taps(constants)
        scales = constants.get("multiplier"), constants.get("shift")
        records = self.padded_records(pack_records(self.conv.epilogue, start, *scales, low, high))
        blocks = self.padded_taps(taps).reshape(self.blocks, self.block, -1, LANES).transpose(0, 2, 1, 3)
        packed = {"w": np.ascontiguousarray(blocks.astype(np.int8)).reshape(-1), "params": records.reshape(-1)}
        return self.with_table(packed, constants)

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.micro.mve_conv_emit import emit

        return emit(self, target)
