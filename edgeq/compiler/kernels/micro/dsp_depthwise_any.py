"""dsp_depthwise.py for images of any size: one kernel for every layer with the same window and epilogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgeq.compiler.kernels.base import Epilogue
from edgeq.compiler.kernels.epilogue.scalar import scaling_constants
from edgeq.compiler.kernels.micro.dsp_depthwise import TILE_PIXELS, DspDepthwiseSpec
from edgeq.compiler.kernels.shared import SharedSpec


@dataclass(frozen=True)
class DspDepthwiseForm:
    """What decides the code.

    Attributes:
        kh, kw, stride_h, stride_w, dilation_h, dilation_w: of the window.
        epilogue: without the numbers of `narrow` that are read at run time.
    """

    kh: int
    kw: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    epilogue: Epilogue

    def build(self, symbol: str, parameters: list[tuple[str, str, int]]) -> Any:
        from edgeq.compiler.kernels.micro.dsp_depthwise_emit import emit_any

        return emit_any(self, symbol, parameters)


def any_size(spec: DspDepthwiseSpec) -> SharedSpec | None:
    """The layer on a kernel for any size; None where tiles don't cover rows or a residual is added.

    Sizes: x and y row and pixel strides, tiles of a row, first pixel of the last one, words of a pixel; for `narrow`
    also the two of `scaling_constants`.
    """
    c, e = spec.conv, spec.conv.epilogue
    if e.residual is not None or c.x.n != 1 or c.y.w < TILE_PIXELS:
        return None
    sizes = [c.x.row_stride, c.x.pixel_stride, c.y.row_stride, c.y.pixel_stride]
    sizes += [-(-c.y.w // TILE_PIXELS), c.y.w - TILE_PIXELS, spec.quads]
    if e.form == "narrow":
        sizes += scaling_constants(e)
        e = replace(e, zero_point=0, post_shift=0)
    form = DspDepthwiseForm(c.kh, c.kw, c.stride_h, c.stride_w, c.dilation_h, c.dilation_w, e)
    return SharedSpec(spec, form, tuple(sizes))
