"""Emits mve_conv.py: activations as bytes, one pixel after the other. Imports tvm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.micro.tiled_conv import SUMS
from edgeq.compiler.kernels.micro.tiled_conv_emit import TiledEmitter, loop
from edgeq.compiler.kernels.tir import Expr

if TYPE_CHECKING:
    from edgeq.compiler.kernels.micro.mve_conv import MveConvSpec
    from edgeq.compiler.target import Target


def emit(spec: MveConvSpec, target: Target) -> Any:
    """The PrimFunc of a convolution by vectors."""
    return _Emitter.emit(spec, target)


class _Emitter(TiledEmitter):
    spec: MveConvSpec

    def gather(self, sources: list[Expr]) -> None:
        spec, c = self.spec, self.spec.conv
        runs, length = spec.taps
        columns = runs // c.kh
        scratch = tir.elements(self.buffers["scratch"], "int8")
        for pixel, source in enumerate(sources):
            with loop(c.kh) as row, loop(columns) as column:
                offset = row * (c.dilation_h * self.x.row_stride) + column * (c.dilation_w * self.x.pixel_stride)
                at = tir.bind(source + offset)
                to = tir.bind((row * columns + column) * length + (4 * SUMS + pixel * spec.depth))
                places = tir.address(scratch, to), tir.address(self.buffers["x"], at)
                tir.call("edgeq_mve_copy", *places, tir.const(length))

    def accumulate(self, block: Expr) -> None:
        spec, sums = self.spec, self.buffers["scratch"]
        weights = tir.address(self.buffers["w"], block * (spec.block * spec.depth // 4))
        name = "edgeq_mve_dot_1x6" if spec.single else "edgeq_mve_dot_3x2"
        tir.call(name, weights, tir.address(sums, SUMS), tir.const(spec.depth), tir.address(sums, 0))
