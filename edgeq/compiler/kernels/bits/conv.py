"""Dense convolution and matrix product of weights ±a with activations of two values, a bit each.

With levels v0 < v1, K products in a sum, q positive weights and p places where the bit of x (1 for v1) and the bit of w
(1 for +a) differ:

    Σ w·x = a·((v0 + v1)·q − v0·K − (v1 − v0)·p)

for p counts (+a, v0) and (−a, v1): each of the first loses a·(v1 − v0) against a·v1·q, and so does each of the second
against −a·v0·(K − q). The magnitude a belongs to the output channel: scales and signs that were folded into a layer of
±1 leave that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.bits.pack import WORD
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import pack_weights
from edgeq.compiler.kernels.epilogue.epilogue import IntArray, isa_of, pack_parameters
from edgeq.errors import CompileError

if TYPE_CHECKING:
    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.target import Target


@dataclass(frozen=True)
class BitConvSpec(ConvSpec):
    """ConvSpec over bits: x has a byte for eight channels (kernels/bits/pack.py), in whole words of 32, one group.

    Attributes:
        levels: the two values of an activation, in stored units, the smaller one first.
    """

    family: ClassVar[str] = "bitconv"
    levels: tuple[int, int] = (0, 1)

    @property
    def channels_per_output(self) -> int:
        return 8 * self.x.c

    def products(self, target: Target) -> list[Product]:
        return list(target.inner.BITS)

    def describe(self, target: Target) -> str:
        tiling = self.plan(target).tiling
        return f"bitconv{self.kh}x{self.kw}_{tiling.tile_h * tiling.tile_w}x{tiling.vectors * isa_of(target).lanes}"

    def mix(self, target: Target) -> dict[str, Any] | None:
        return None

    def stored_bits(self, target: Target) -> int:
        return 1

    def check(self) -> None:
        super().check()
        if self.groups != 1 or self.x.c % (WORD // 8) or not self.levels[0] < self.levels[1]:
            why = f"{self.groups} groups, {8 * self.x.c} channels, levels {self.levels}"
            raise CompileError("a convolution of bits contradicts itself", why=why)

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands; constants as for ConvSpec, w int8 [N, C, kh, kw] of ±a with C = 8 · x.c. Behind the other
        parameters lies what a differing bit takes from a sum, by lane.

        Raises:
            CompileError: a constant has the wrong shape or range, or an accumulator could overflow.
        """
        w = np.asarray(constants["w"])
        shape, magnitude = (self.y.c, 8 * self.x.c, self.kh, self.kw), magnitudes(w)
        if w.shape != shape or magnitude is None:
            raise CompileError("weights don't fit a convolution of bits", why=f"{w.dtype} {w.shape}, not ±a {shape}")
        bits = np.packbits(w > 0, axis=1, bitorder="little").view(np.int8)
        packed = pack_weights(bits, self.plan(target), self.layout(target), isa_of(target))
        result = {"w": packed, "params": self._pack_counts(target, constants, w.astype(np.int64), magnitude)}
        if self.epilogue.lut:
            result["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return result

    def _pack_counts(
        self, target: Target, constants: dict[str, np.ndarray], w: IntArray, magnitude: IntArray
    ) -> IntArray:
        taps = w.reshape(self.y.c, -1)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        (low, high), positive, k = self.levels, (taps > 0).sum(1), taps.shape[1]
        start = bias - self.x_zero_point * taps.sum(1) + magnitude * ((low + high) * positive - low * k)
        optional = [constants.get(name) for name in ("multiplier", "shift")]
        m, s = (None if v is None else np.broadcast_to(np.asarray(v).reshape(-1), (self.y.c,)) for v in optional)
        layout, factors = self.layout(target), (high - low) * magnitude
        params = pack_parameters(
            self.epilogue, target, layout, start, m, s, acc_low=start - factors * k, acc_high=start
        )  # fmt: skip
        return np.concatenate([params, layout.spread(isa_of(target), factors, 0).astype(np.int32)])

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        more = {"params": self.layout(target).positions(isa_of(target))}
        return [(name, dtype, count + more.get(name, 0)) for name, dtype, count in super().parameters(target)]


def magnitudes(w: np.ndarray) -> IntArray | None:
    """int64 [N]: the a of each output channel whose weights, int8 [N, …], are all +a or −a; None: there are others."""
    size = np.abs(w.astype(np.int64)).reshape(len(w), -1)
    same = w.dtype == np.int8 and bool((size == size[:, :1]).all() and size.all())
    return size[:, 0] if same else None
