"""TIR of embedding.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DTYPE_BYTES, TVM_DTYPE, DType
from edgeq.compiler.kernels.movement.embedding import EmbeddingSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.target import Target


def embedding(spec: EmbeddingSpec, target: Target) -> Expr:
    """The PrimFunc of a row lookup."""
    nest = spec.nest
    parameters = [
        ("table", spec.dtype, spec.rows * spec.width),
        ("indices", spec.index_dtype, nest.extent(0)),
        ("y", spec.dtype, nest.extent(1) + spec.width - 1),
    ]
    lanes = target.vector_bytes // DTYPE_BYTES[spec.dtype]
    full = spec.width // lanes
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (table, indices, y)):

        def one(offsets: Sequence[Expr], block: Expr) -> None:
            row = tir.bind(limited_row(indices, offsets[0], spec.rows, spec.index_dtype) * spec.width)
            if full:
                with T.serial(0, full) as v:
                    tir.vstore(y, offsets[1] + v * lanes, tir.vload(table, row + v * lanes, lanes), lanes)
            start = full * lanes
            while start < spec.width:
                piece = 1 << ((spec.width - start).bit_length() - 1)
                tir.vstore(y, offsets[1] + start, tir.vload(table, row + start, piece), piece)
                start += piece

        loops.each_row(nest, spec.split(), t0, t1, one)
    return out[0]


def limited_row(indices: Expr, place: Expr, rows: int, dtype: DType) -> Expr:
    """An index, s32, limited to the rows there are."""
    index, kind = tir.load(indices, place), TVM_DTYPE[dtype]
    inside = tir.tirx.max(tir.tirx.min(index, tir.const(rows - 1, kind)), tir.const(0, kind))
    # Held: in an index TVM would do the comparisons in 32 bits, which an index of 64 may not fit.
    return tir.hold(tir.cast("int32", inside))
