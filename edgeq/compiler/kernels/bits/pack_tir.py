"""TIR of pack.py. Imports tvm."""

from __future__ import annotations

from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.bits.pack import WORD, PackBitsSpec
from edgeq.compiler.kernels.loops import divide, remainder, span
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target


def pack_bits(spec: PackBitsSpec, target: Target) -> Expr:
    """The PrimFunc: a task is a row of pixels."""
    counting = target.inner.BITS[0]
    with tir.kernel(spec.symbol(target), spec.parameters(target)) as (out, t0, t1, (x, y)):
        offset = tir.broadcast(tir.const(spec.offset % 256, "uint8"), WORD)
        with span(t0, t1) as task:
            image, row = tir.bind(divide(task, spec.x.h)), tir.bind(remainder(task, spec.x.h))
            source = tir.bind(image * spec.x.image_stride + row * spec.x.row_stride)
            place = tir.bind(image * spec.y.image_stride + row * spec.y.row_stride)
            with T.serial(0, spec.x.w) as column, T.serial(0, spec.x.c // WORD) as word:
                values = tir.vload(x, source + column * spec.x.pixel_stride + word * WORD, WORD)
                bits = counting.sign_bits(tir.bind(values + offset))
                to = tir.bind(place + column * spec.y.pixel_stride + word * (WORD // 8))
                tir.vstore(y, to, tir.reinterpret("uint8x4", bits), WORD // 8)
    return out[0]
