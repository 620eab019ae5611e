"""Dense convolution for Cortex-M with DSP instructions: two weights in one halfword, two products in one smlad.

A word of packed weights belongs to two input elements k, k+1 and two output channels: each halfword holds
256·w[odd] + w[even]. smlad of such a word with two s16 activations adds up 256·odd + even; sxtb16 takes the even
weights out of the same word for a second smlad. At the end odd = (paired − even) >> 8. Sums wrap modulo 2^32 on the
way; the result is exact if and only if every odd channel's finished accumulator fits 24 bits, which `pairable` proves
from the weights. So weights take half the unpacking of the usual form, in which each s8 is widened by itself.

A tile of four pixels is widened to s16 into scratch memory first, the whole K in one run, two k of each pixel in turn,
so that the loop over K (cpp_runtime/static/dsp_dot.S) has no inner structure. Where there is but one pixel in all, as
in fully connected layers, the loop takes four channels at a time instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import Image, KernelSpec, Operand
from edgeq.compiler.kernels.conv import ConvSpec, accumulator_bounds
from edgeq.compiler.kernels.conv_plan import pixel_run
from edgeq.compiler.kernels.epilogue import wrapped
from edgeq.compiler.kernels.scalar_epilogue import RECORD_WORDS, pack_records

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

ACCUMULATOR_BITS = 24  # of odd channels
LANE_BITS = 8  # what an odd channel's products lie to the left of an even one's
TILE_PIXELS = 4  # eight accumulators, two words of activations and two of weights: 14 registers with the addresses
SUMS = 8  # words of scratch for a tile's sums
STEP = 8  # k of one pass of the loop


@dataclass(frozen=True)
class PairedConvSpec(KernelSpec):
    """A convolution of s8 activations; operands `x`, `w`, `params`, (`table`), (`residual`), `y`, `scratch`.

    Attributes:
        conv: what is computed; one group.
    """

    family: ClassVar[str] = "paired_conv"
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
    def quads(self) -> bool:
        """Runs are whole words: activations are widened four at a time, in the order 0, 2, 1, 3."""
        return self.taps[1] % 4 == 0

    @property
    def depth(self) -> int:
        """K, padded to whole passes of the loop."""
        runs, length = self.taps
        return -(-runs * length // STEP) * STEP

    @property
    def raster(self) -> bool:
        """Tiles run on from one row of pixels to the next: rows aren't whole tiles, and pixels are found by division."""
        y = self.images[1]
        return y.h > 1 and y.w % TILE_PIXELS != 0

    @property
    def single(self) -> bool:
        """One pixel in all: blocks of two pairs of channels."""
        y = self.images[1]
        return y.n * y.h * y.w == 1

    @property
    def pairs(self) -> int:
        """Pairs of output channels, padded to whole blocks."""
        block = self.block_pairs
        return -(-self.conv.y.c // (2 * block)) * block

    @property
    def block_pairs(self) -> int:
        """Pairs of output channels that the loop does together."""
        return 2 if self.single else 1

    @property
    def tile(self) -> int:
        """Pixels that the loop does together."""
        return 1 if self.single else TILE_PIXELS

    @property
    def macs(self) -> int:
        return self.conv.macs

    def operands(self) -> list[Operand]:
        return self.conv.operands()

    def tasks(self) -> int:
        y = self.images[1]
        return y.n if self.raster else y.n * y.h

    def describe(self, target: Target) -> str:
        return f"conv{self.conv.kh}x{self.conv.kw}_s8s8_{self.tile}x{2 * self.block_pairs}"

    def scratch_bytes(self, target: Target) -> int:
        """The tile's sums, then its activations."""
        return 4 * SUMS + 2 * self.depth * self.tile

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands from the constants of `ConvSpec.pack`.

        Raises:
            CompileError: an accumulator could overflow, or a constant is outside its range.
        """
        c = self.conv
        w = np.asarray(constants["w"]).astype(np.int64)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        taps = w.transpose(0, 2, 3, 1).reshape(c.y.c, -1)
        low, high = accumulator_bounds(taps, bias, c.x_dtype, c.x_zero_point)
        start = bias - c.x_zero_point * taps.sum(1)
        records = pack_records(c.epilogue, start, constants.get("multiplier"), constants.get("shift"), low, high)
        if c.epilogue.form == "narrow":
            fixed, shifted = settled(low, high, records[:, 1])
            records[fixed, 0] = np.where(low == high, shifted, wrapped(start))[fixed]
            records[fixed, 1] = 0
            records[fixed & (low != high), 2] = 0
        missing = 2 * self.pairs - c.y.c
        records = np.concatenate([records, np.repeat(records[-1:], missing, axis=0)])
        pairs = records.reshape(self.pairs, 2, -1).astype(np.int64)
        joined = (pairs[:, 1, 0] << LANE_BITS) + pairs[:, 0, 0]
        pairs[:, 1, 0] = (joined + 2**31) % 2**32 - 2**31
        if c.epilogue.form == "narrow":
            pairs[:, 1, 1] = np.minimum(pairs[:, 1, 1] + LANE_BITS, 31)
        result = {"w": self._pack_weights(taps), "params": pairs.reshape(-1).astype(np.int32)}
        if c.epilogue.lut:
            result["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return result

    def _pack_weights(self, taps: np.ndarray) -> np.ndarray:
        """int8 bytes [blocks, depth / 2, pairs of a block, 2 (k), 2 (even, odd)], from int64 [N, K]."""
        padded = np.zeros((2 * self.pairs, self.depth), np.int64)
        padded[: taps.shape[0], : taps.shape[1]] = taps
        if self.quads:
            order = np.arange(self.depth).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1)
            padded = padded[:, order]
        even, odd = padded[0::2], padded[1::2]
        words = ((odd << LANE_BITS) + even).astype("<i2").reshape(-1, self.block_pairs, self.depth // 2, 2)
        return np.ascontiguousarray(words.transpose(0, 2, 1, 3)).reshape(-1).view(np.int8)

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand; weights and scratch are read as words."""
        c, (x, y, other) = self.conv, self.images
        residual = c.epilogue.residual
        stored = "s32" if c.epilogue.form == "none" else c.epilogue.dtype
        known = {
            "x": (c.x_dtype, x.elements),
            "w": ("s32", self.pairs * self.depth // 2),
            "params": ("s32", 2 * self.pairs * RECORD_WORDS[c.epilogue.form]),
            "table": (c.epilogue.dtype, 256),
            "residual": (residual.dtype, other.elements) if residual and other else ("s8", 0),
            "y": (stored, y.elements),
            "scratch": ("s32", self.scratch_bytes(target) // 4),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.paired_conv_emit import emit

        return emit(self, target)


def settled(low: np.ndarray, high: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Channels of `narrow` that are the same for all inputs, and what their accumulators are behind the first shift.

    Two kinds, both common in networks with dead channels: all weights zero (the accumulator is its bias, of any size), or
    a shift that leaves nothing of any accumulator (behind it stands 0). Neither needs a large bias or rounding term then.
    """
    shift = np.asarray(shift, np.int64)
    half = np.left_shift(np.int64(1), shift) >> 1
    first, last = (np.clip((value + half) >> shift, -(2**15), 2**15 - 1) for value in (low, high))
    return (first == last) & ((low == high) | (first == 0)), first


def pairable(conv: ConvSpec, constants: dict[str, np.ndarray]) -> bool:
    """Whether this family computes the convolution exactly: s8, one group, odd channels within 24 bits."""
    if conv.x_dtype != "s8" or conv.groups != 1:
        return False
    w = np.asarray(constants["w"]).astype(np.int64)
    if w.max(initial=0) > 127 or (w[1::2].min(initial=0) == -128):
        return False  # 256 · −128 − 1 leaves a halfword
    taps = w.transpose(0, 2, 3, 1).reshape(conv.y.c, -1)
    bias = np.asarray(constants["bias"], np.int64).reshape(-1)
    low, high = accumulator_bounds(taps, bias, conv.x_dtype, conv.x_zero_point)
    if conv.epilogue.form == "narrow":
        shift = np.broadcast_to(np.asarray(constants["shift"], np.int64).reshape(-1), high.shape)
        half = np.left_shift(np.int64(1), shift) >> 1
        fixed, shifted = settled(low, high, shift)
        constant = fixed & (low == high)
        low, high = np.where(constant, shifted, low), np.where(constant, shifted, high + np.where(fixed, 0, half))
    limit = 1 << (ACCUMULATOR_BITS - 1)
    return bool(low[1::2].min(initial=0) >= -limit and high[1::2].max(initial=0) < limit)
