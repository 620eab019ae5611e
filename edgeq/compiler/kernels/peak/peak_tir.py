"""Emits a PeakSpec: sums go on from pass to pass, so that no pass can be left out. Imports tvm."""

from __future__ import annotations

from typing import Any

from tvm.tirx import op as _op

from edgeq.compiler.isa.products import Run
from edgeq.compiler.kernels import tir
from edgeq.compiler.kernels.loops import span
from edgeq.compiler.kernels.peak.peak import GROUPS, PASSES, PeakSpec
from edgeq.compiler.kernels.tir import T
from edgeq.compiler.target import Target


def emit_peak(spec: PeakSpec, target: Target) -> Any:
    """The PrimFunc."""
    product, (rows, vectors) = spec.product_mix.product(target), spec.tile(target)
    with tir.kernel(spec.symbol(target), spec.parameters(target)) as (out, t0, t1, (x, w, y)):
        zero = tir.bind(_op.shift_right(t0, tir.const(31)))
        with span(t0, t1):
            none = tir.broadcast(tir.const(0), product.lanes)
            initial = product.initial([[none] * vectors] * rows)
            acc = tir.alloc(len(initial), f"int32x{product.lanes}")
            for number, value in enumerate(initial):
                tir.store(acc, number, value)
            with T.serial(0, PASSES + zero):
                product.accumulate(
                    Run(
                        acc=acc,
                        rows=rows,
                        vectors=vectors,
                        x=x,
                        x_index=lambda row: zero + row * (GROUPS * product.group),
                        w=w,
                        w_index=zero,
                        groups=GROUPS,
                        zero=zero,
                    )
                )
            sums = product.results([tir.load(acc, number) for number in range(len(initial))], [[none] * vectors] * rows)
            for row, registers in enumerate(sums):
                for vector, value in enumerate(registers):
                    tir.vstore(y, (row * vectors + vector) * product.lanes, value, product.lanes)
    return out[0]
