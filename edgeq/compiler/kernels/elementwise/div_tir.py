"""TIR of div.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.tirx import op as _op

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.elementwise.div import DivSpec
from edgeq.compiler.kernels.tir import Expr
from edgeq.compiler.target import Target


def _wide(value: int) -> Expr:
    return tir.const(value, "int64")


def div(spec: DivSpec, target: Target) -> Expr:
    """The PrimFunc of a division."""
    nest = spec.nest
    dtypes = (spec.a_dtype, spec.b_dtype, spec.dtype)
    parameters = [(name, d, nest.extent(k)) for k, (name, d) in enumerate(zip("aby", dtypes, strict=True))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (a, b, y)):

        def one(offsets: Sequence[Expr]) -> None:
            top = tir.bind(tir.cast("int64", tir.load(a, offsets[0])) - _wide(spec.a_zero_point))
            bottom = tir.bind(tir.cast("int64", tir.load(b, offsets[1])) - _wide(spec.b_zero_point))
            value = tir.bind(_quotient(spec, top, bottom) + _wide(spec.zero_point))
            clamped = tir.tirx.max(tir.tirx.min(value, _wide(spec.high)), _wide(spec.low))
            tir.store(y, offsets[2], tir.cast(TVM_DTYPE[spec.dtype], clamped))

        loops.sweep_scalar(nest, spec.split(), t0, t1, one)
    return out[0]


def _quotient(spec: DivSpec, top: Expr, bottom: Expr) -> Expr:
    """(2n + d) // (2d), far beyond every clamp where d is 0 and n is not."""
    select = tir.tirx.Select
    zero, far = _wide(0), _wide(2**20)
    magnitude = tir.bind(select(bottom < zero, zero - bottom, bottom) * _wide(1 << spec.shift))
    n = select(bottom < zero, zero - top, top) * _wide(spec.multiplier)
    numerator = tir.bind(_wide(2) * n + magnitude)
    divisor = tir.bind(tir.tirx.max(magnitude * _wide(2), _wide(1)))
    # Floor division by hand: the machine's rounds towards zero.
    quotient = tir.bind(_op.truncdiv(numerator, divisor))
    floored = quotient - select(quotient * divisor > numerator, _wide(1), zero)
    infinite = select(top > zero, far, select(top < zero, zero - far, zero))
    return select(magnitude == zero, infinite, floored)
