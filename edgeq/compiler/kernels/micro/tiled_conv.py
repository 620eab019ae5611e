"""Dense convolution on microcontrollers: what the families for different inner loops have in common.

A tile of output pixels gathers its activations into scratch memory, the whole K of a pixel in one run, so that the
inner loop (hand-written, in cpp_runtime/static) has no inner structure; it computes a block of channels for all pixels
of the tile. Where there is but one pixel in all (fully connected layers), the loop takes more channels of that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import Image, KernelSpec, Operand
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.plan import pixel_run
from edgeq.compiler.kernels.epilogue.scalar import RECORD_WORDS
from edgeq.compiler.kernels.windowed import accumulator_bounds

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

IntArray = np.ndarray
SUMS = 8  # words of scratch for a tile's sums


@dataclass(frozen=True)
class TiledConvSpec(KernelSpec):
    """A convolution of s8 activations, one group; operands `x`, `w`, `params`, (`table`), (`residual`), `y`, `scratch`.

    Class attributes:
        pixels, channels: of a tile.
        single_channels: of a tile of one pixel.
        step: k of one pass of the loop.

    Attributes:
        conv: what is computed.
    """

    pixels: ClassVar[int]
    channels: ClassVar[int]
    single_channels: ClassVar[int]
    step: ClassVar[int]
    conv: ConvSpec

    @property
    def images(self) -> tuple[Image, Image, Image | None]:
        """x, y and the residual, pixels renumbered into one row where strides allow it."""
        residual = self.conv.epilogue.residual.image if self.conv.epilogue.residual else None
        images = [self.conv.x, self.conv.y] + ([residual] if residual else [])
        flat = pixel_run(images) if self.conv.window.pointwise else None
        chosen = flat or images
        return chosen[0], chosen[1], chosen[2] if residual else None

    @property
    def taps(self) -> tuple[int, int]:
        """(runs, elements of a run): K as pieces that are contiguous in x."""
        c, x = self.conv, self.images[0]
        joined = c.dilation_w == 1 and x.pixel_stride == x.c
        return (c.kh, c.kw * x.c) if joined else (c.kh * c.kw, x.c)

    @property
    def depth(self) -> int:
        """K, padded to whole passes of the loop."""
        runs, length = self.taps
        return -(-runs * length // self.step) * self.step

    @property
    def raster(self) -> bool:
        """Tiles run on from one row of pixels to the next, as rows aren't whole tiles: pixels are found by division."""
        y = self.images[1]
        return y.h > 1 and y.w % self.pixels != 0

    @property
    def single(self) -> bool:
        """One pixel in all."""
        y = self.images[1]
        return y.n * y.h * y.w == 1

    @property
    def tile(self) -> int:
        """Pixels that the loop does together."""
        return 1 if self.single else self.pixels

    @property
    def block(self) -> int:
        """Channels that the loop does together."""
        return self.single_channels if self.single else self.channels

    @property
    def blocks(self) -> int:
        """Blocks of channels; the last one may have fewer."""
        return -(-self.conv.y.c // self.block)

    @property
    def macs(self) -> int:
        return self.conv.macs

    def operands(self) -> list[Operand]:
        return self.conv.operands()

    def tasks(self) -> int:
        y = self.images[1]
        return y.n if self.raster else y.n * y.h

    def describe(self, target: Target) -> str:
        return f"conv{self.conv.kh}x{self.conv.kw}_s8s8_{self.tile}x{self.block}"

    def weight_bytes(self) -> int:
        """Size of the operand `w`."""
        return self.blocks * self.block * self.depth

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand; weights and scratch are words."""
        c, (x, y, other) = self.conv, self.images
        residual = c.epilogue.residual
        stored = "s32" if c.epilogue.form == "none" else c.epilogue.dtype
        known = {
            "x": (c.x_dtype, x.elements),
            "w": ("s32", self.weight_bytes() // 4),
            "params": ("s32", self.blocks * self.block * RECORD_WORDS[c.epilogue.form]),
            "table": (c.epilogue.dtype, 256),
            "residual": (residual.dtype, other.elements) if residual and other else ("s8", 0),
            "y": (stored, y.elements),
            "scratch": ("s32", self.scratch_bytes(target) // 4),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def flat_taps(self, constants: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(weights [N, K], what accumulators start with [N], and their least and largest end), all int64."""
        c = self.conv
        taps = np.asarray(constants["w"]).astype(np.int64).transpose(0, 2, 3, 1).reshape(c.y.c, -1)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        low, high = accumulator_bounds(taps, bias, c.x_dtype, c.x_zero_point)
        return taps, bias - c.x_zero_point * taps.sum(1), low, high

    def padded_taps(self, taps: np.ndarray) -> np.ndarray:
        """Weights [N, K] with zeros up to whole blocks and passes."""
        padded = np.zeros((self.blocks * self.block, self.depth), np.int64)
        padded[: taps.shape[0], : taps.shape[1]] = taps
        return padded

    def padded_records(self, records: np.ndarray) -> np.ndarray:
        """Epilogue records [N, words] up to whole blocks."""
        missing = self.blocks * self.block - len(records)
        return np.concatenate([records, np.repeat(records[-1:], missing, axis=0)])

    def with_table(self, packed: dict[str, np.ndarray], constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The packed operands and the epilogue's table, if there is one."""
        if self.conv.epilogue.lut:
            packed["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return packed
