"""Dense convolution for Cortex-M with DSP instructions: two weights in one halfword, two products in one smlad.

A word of packed weights belongs to two input elements k, k+1 and two output channels: each halfword holds
256·w[odd] + w[even]. smlad of such a word with two s16 activations adds up 256·odd + even; sxtb16 takes the even
weights out of the same word for a second smlad. At the end odd = (paired − even) >> 8. Sums wrap modulo 2^32 on the
way; the result is exact if and only if every odd channel's finished accumulator fits 24 bits, which `pairable` proves
from the weights. So weights take half the unpacking of the usual form, in which each s8 is widened by itself.

A tile is four pixels and a pair of channels, or one pixel and two pairs (cpp_runtime/static/dsp_dot.S). Activations are
widened to s16 in scratch memory, two k of each pixel in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.epilogue.epilogue import wrapped
from edgeq.compiler.kernels.epilogue.scalar import pack_records
from edgeq.compiler.kernels.micro.tiled_conv import SUMS, TiledConvSpec
from edgeq.compiler.kernels.windowed import accumulator_bounds
from edgeq.integer.arithmetic import narrow_rounding

if TYPE_CHECKING:
    from edgeq.compiler.kernels.shared import SharedSpec
    from edgeq.compiler.target import Target

ACCUMULATOR_BITS = 24  # of odd channels
LANE_BITS = 8  # what an odd channel's products lie to the left of an even one's


@dataclass(frozen=True)
class PairedConvSpec(TiledConvSpec):
    """A convolution whose weights lie in pairs of channels; only where `pairable`."""

    family: ClassVar[str] = "paired_conv"
    pixels: ClassVar[int] = 4  # eight accumulators, two words each of weights and activations: 14 registers
    channels: ClassVar[int] = 2
    single_channels: ClassVar[int] = 4
    step: ClassVar[int] = 8

    @property
    def quads(self) -> bool:
        """Runs are whole words: activations are widened four at a time, in the order 0, 2, 1, 3."""
        return self.taps[1] % 4 == 0

    def scratch_bytes(self, target: Target) -> int:
        """The tile's sums, then its activations."""
        return 4 * SUMS + 2 * self.depth * self.tile

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands from the constants of `ConvSpec.pack`.

        Raises:
            CompileError: an accumulator could overflow, or a constant is outside its range.
        """
        e = self.conv.epilogue
        taps, start, low, high = self.flat_taps(constants)
        records = pack_records(e, start, constants.get("multiplier"), constants.get("shift"), low, high)
        if e.form == "narrow":
            fixed, shifted = settled(low, high, records[:, 1] - e.left)
            records[fixed, 0] = np.where(low == high, shifted, wrapped(start))[fixed]
            records[fixed, 1] = e.left
            records[fixed & (low != high), 2] = 0
        pairs = self.padded_records(records).reshape(-1, 2, records.shape[1]).astype(np.int64)
        pairs[:, 1, 0] = wrapped((pairs[:, 1, 0] << LANE_BITS) + pairs[:, 0, 0])
        if e.form == "narrow":
            pairs[:, 1, 1] = np.minimum(pairs[:, 1, 1] + LANE_BITS, 31 + e.left)
        packed = {"w": self._pack_weights(taps), "params": pairs.reshape(-1).astype(np.int32)}
        return self.with_table(packed, constants)

    def _pack_weights(self, taps: np.ndarray) -> np.ndarray:
        """int8 bytes [blocks, depth / 2, pairs of a block, 2 (k), 2 (even, odd)], from int64 [N, K]."""
        padded = self.padded_taps(taps)
        if self.quads:
            order = np.arange(self.depth).reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1)
            padded = padded[:, order]
        even, odd = padded[0::2], padded[1::2]
        words = ((odd << LANE_BITS) + even).astype("<i2").reshape(-1, self.block // 2, self.depth // 2, 2)
        return np.ascontiguousarray(words.transpose(0, 2, 1, 3)).reshape(-1).view(np.int8)

    def shareable(self) -> SharedSpec | None:
        from edgeq.compiler.kernels.micro.paired_conv_any import any_size

        return any_size(self)

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.micro.paired_conv_emit import emit

        return emit(self, target)


def settled(low: np.ndarray, high: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Channels of `narrow` that are the same for all inputs, and what their accumulators are behind the first shift.

    Two kinds, both common in networks with dead channels: all weights zero (the accumulator is its bias, of any size),
    or a shift that leaves nothing of any accumulator (behind it stands 0). Neither needs a large bias or rounding term.
    """
    shift = np.asarray(shift, np.int64)
    right, half = np.maximum(shift, 0), narrow_rounding(shift)
    moved = (np.left_shift(value, right - shift) for value in (low, high))
    first, last = (np.clip((value + half) >> right, -(2**15), 2**15 - 1) for value in moved)
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
        half = narrow_rounding(shift)
        fixed, shifted = settled(low, high, shift)
        constant = fixed & (low == high)
        low, high = np.where(constant, shifted, low), np.where(constant, shifted, high + np.where(fixed, 0, half))
    limit = 1 << (ACCUMULATOR_BITS - 1)
    return bool(low[1::2].min(initial=0) >= -limit and high[1::2].max(initial=0) < limit)
