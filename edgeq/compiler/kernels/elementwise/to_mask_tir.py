"""TIR of to_mask.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.elementwise.to_mask import ToMaskSpec
from edgeq.compiler.kernels.tir import Expr
from edgeq.compiler.target import Target


def to_mask(spec: ToMaskSpec, target: Target) -> Expr:
    """The PrimFunc of a comparison with zero. Element by element: a mask is a row of tokens."""
    nest = spec.nest
    parameters = [("x", spec.x_dtype, nest.extent(0)), ("y", spec.dtype, nest.extent(1))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, y)):

        def one(offsets: Sequence[Expr]) -> None:
            stored = TVM_DTYPE[spec.dtype]
            absent = tir.load(x, offsets[0]) == tir.const(spec.x_zero, TVM_DTYPE[spec.x_dtype])
            tir.store(y, offsets[1], tir.tirx.Select(absent, tir.const(spec.zero, stored), tir.const(spec.one, stored)))

        loops.sweep_scalar(nest, spec.split(), t0, t1, one)
    return out[0]
