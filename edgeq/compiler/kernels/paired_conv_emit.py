"""Emits paired_conv.py: activations as halfwords, two k of each pixel in turn. Imports tvm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm.tirx import op as _op

from edgeq.compiler.isa import dsp
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.paired_conv import LANE_BITS
from edgeq.compiler.kernels.tiled_conv import SUMS
from edgeq.compiler.kernels.tiled_conv_emit import TiledEmitter, loop
from edgeq.compiler.kernels.tir import Expr

if TYPE_CHECKING:
    from edgeq.compiler.kernels.paired_conv import PairedConvSpec
    from edgeq.compiler.target import Target


def emit(spec: PairedConvSpec, target: Target) -> Any:
    """The PrimFunc of a paired convolution."""
    return _Emitter.emit(spec, target)


class _Emitter(TiledEmitter):
    spec: PairedConvSpec

    def gather(self, sources: list[Expr]) -> None:
        """Every pixel's K activations as s16 in scratch memory, two k of each in turn."""
        spec, c = self.spec, self.spec.conv
        runs, length = spec.taps
        columns = runs // c.kh
        with loop(c.kh) as row, loop(columns) as column:
            offset = tir.bind(row * (c.dilation_h * self.x.row_stride) + column * (c.dilation_w * self.x.pixel_stride))
            places = [tir.bind(origin + offset) for origin in sources]
            first = tir.bind((row * columns + column) * length)
            if spec.quads:
                self._widen_quads(places, first, length)
            else:
                self._widen_elements(places, first, length)

    def _widen_quads(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Runs of whole words; their order in scratch memory is 0, 2, 1, 3."""
        x, scratch, tile = self.buffers["x"], self.buffers["scratch"], self.spec.tile
        start = tir.bind(first * tile // 2 + SUMS)
        with loop(length // 4) as quad:
            words = [tir.bind(tir.reinterpret("int32", tir.vload(x, at + quad * 4, 4))) for at in sources]
            for half, unpack in enumerate((dsp.even_bytes, dsp.odd_bytes)):
                for pixel, word in enumerate(words):
                    tir.store(scratch, start + quad * (2 * tile) + (half * tile + pixel), unpack(word))

    def _widen_elements(self, sources: list[Expr], first: Expr, length: int) -> None:
        """Other runs: halfwords in plain order."""
        x, halves, tile = self.buffers["x"], tir.elements(self.buffers["scratch"], "int16"), self.spec.tile
        with loop(length) as index:
            k = tir.bind(first + index)
            place = tir.bind(_op.shift_right(k, tir.const(1)) * (2 * tile) + (k & 1) + 2 * SUMS)
            for pixel, at in enumerate(sources):
                tir.store(halves, place + 2 * pixel, tir.cast("int16", tir.load(x, at + index)))

    def accumulate(self, block: Expr) -> None:
        spec, sums = self.spec, self.buffers["scratch"]
        weights = tir.address(self.buffers["w"], block * (spec.block * spec.depth // 4))
        ends = [tir.address(sums, SUMS + part * spec.depth * spec.tile // 2) for part in range(2)]
        tir.call("edgeq_dsp_dot_1x4" if spec.single else "edgeq_dsp_dot_4x2", weights, *ends, tir.address(sums, 0))

    def fraction(self, channel: int) -> int:
        return LANE_BITS if channel % 2 else 0
