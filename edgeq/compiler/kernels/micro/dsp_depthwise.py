"""Depthwise convolution for Cortex-M with DSP instructions: four channels in a word, two neighbouring pixels.

A word of activations is widened to two pairs of s16 once for all outputs of the tile that it belongs to; weights lie in
memory as s16 already, in the same two pairs (channels 0 and 2, 1 and 3), so that one double-word load serves a tap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import KernelSpec, Operand
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.epilogue.scalar import RECORD_WORDS, pack_records
from edgeq.compiler.kernels.windowed import accumulator_bounds

if TYPE_CHECKING:
    from edgeq.compiler.kernels.shared import SharedSpec
    from edgeq.compiler.target import Target

QUAD = 4  # channels of a word
ORDER = (0, 2, 1, 3)  # of channels in the two pairs
TILE_PIXELS = 2


@dataclass(frozen=True)
class DspDepthwiseSpec(KernelSpec):
    """A depthwise convolution of s8 activations whose channels are whole words.

    Attributes:
        conv: what is computed.
    """

    family: ClassVar[str] = "dsp_depthwise"
    conv: DepthwiseSpec

    @property
    def quads(self) -> int:
        """Words of one pixel."""
        return self.conv.x.c // QUAD

    @property
    def macs(self) -> int:
        return self.conv.macs

    def operands(self) -> list[Operand]:
        return self.conv.operands()

    def tasks(self) -> int:
        return self.conv.y.n * self.conv.y.h

    def describe(self, target: Target) -> str:
        return f"depthwise_s8s16_{self.conv.kh}x{self.conv.kw}_{TILE_PIXELS}x{QUAD}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands from the constants of `DepthwiseSpec.pack`.

        Raises:
            CompileError: an accumulator could overflow, or a constant is outside its range.
        """
        c = self.conv
        taps = np.asarray(constants["w"]).astype(np.int64).reshape(c.y.c, -1)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        low, high = accumulator_bounds(taps, bias, c.x_dtype, c.x_zero_point)
        start = bias - c.x_zero_point * taps.sum(1)
        records = pack_records(c.epilogue, start, constants.get("multiplier"), constants.get("shift"), low, high)
        words = taps.reshape(self.quads, QUAD, -1)[:, ORDER].transpose(0, 2, 1).astype("<i2")
        result = {
            "weights": np.ascontiguousarray(words).reshape(-1).view(np.int8),
            "params": records.reshape(-1),
        }
        if c.epilogue.lut:
            result["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return result

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand; weights are read as words."""
        c, residual = self.conv, self.conv.epilogue.residual
        known = {
            "x": (c.x_dtype, c.x.elements),
            "weights": ("s32", self.quads * c.kh * c.kw * 2),
            "params": ("s32", c.y.c * RECORD_WORDS[c.epilogue.form]),
            "table": (c.epilogue.dtype, 256),
            "residual": (residual.dtype, residual.image.elements) if residual else ("s8", 0),
            "y": (c.y_dtype, c.y.elements),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def shareable(self) -> SharedSpec | None:
        from edgeq.compiler.kernels.micro.dsp_depthwise_any import any_size

        return any_size(self)

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.micro.dsp_depthwise_emit import emit

        return emit(self, target)


def wordwise(conv: DepthwiseSpec) -> bool:
    """Whether this family computes the convolution: s8, one output per channel, channels in whole words."""
    return conv.x_dtype == "s8" and conv.multiplier_per_channel == 1 and conv.x.c % QUAD == 0
