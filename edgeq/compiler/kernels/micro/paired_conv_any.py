"""Pointwise convolutions of paired_conv.py for any size: one kernel for every layer with the same epilogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgeq.compiler.kernels.base import Epilogue
from edgeq.compiler.kernels.epilogue.scalar import scaling_constants
from edgeq.compiler.kernels.micro.paired_conv import PairedConvSpec
from edgeq.compiler.kernels.micro.tiled_conv import SUMS
from edgeq.compiler.kernels.shared import SharedSpec


@dataclass(frozen=True)
class PairedPointwiseForm:
    """What decides the code.

    Attributes:
        raster: tiles run on from one row to the next.
        epilogue: without the numbers of `narrow` that are read at run time.
    """

    raster: bool
    epilogue: Epilogue

    def build(self, symbol: str, parameters: list[tuple[str, str, int]]) -> Any:
        from edgeq.compiler.kernels.micro.paired_conv_emit import emit_any

        return emit_any(self, symbol, parameters)


def any_size(spec: PairedConvSpec) -> SharedSpec | None:
    """The layer on a kernel for any size; None for windows, residuals, and pixels or channels that don't fill tiles.

    Sizes: strides of x from one output row and pixel to the next, those of y, pixels of a row, tiles of a task, first
    pixel of the last one, blocks of channels, words of a block's weights, words of a pixel's channels, word where the
    tile's activations end; for `narrow` also the two of `scaling_constants`.
    """
    c, e = spec.conv, spec.conv.epilogue
    x, y, _ = spec.images
    pixels = y.h * y.w if spec.raster else y.w
    whole = c.kh == c.kw == 1 and spec.quads and c.y.c % spec.channels == 0 and pixels >= spec.pixels
    if not whole or e.residual is not None or y.n != 1:
        return None
    sizes = [c.stride_h * x.row_stride, c.stride_w * x.pixel_stride, y.row_stride, y.pixel_stride, y.w]
    sizes += [-(-pixels // spec.tile), pixels - spec.tile, spec.blocks, spec.block * spec.depth // 4]
    sizes += [spec.taps[1] // 4, SUMS + spec.depth * spec.tile // 2]
    if e.form == "narrow":
        sizes += scaling_constants(e)
        e = replace(e, zero_point=0, post_shift=0)
    return SharedSpec(spec, PairedPointwiseForm(spec.raster, e), tuple(sizes))
