"""TIR of scaled_embedding.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.isa import narrow
from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.movement.embedding_tir import limited_row
from edgeq.compiler.kernels.movement.scaled_embedding import LANES, ScaledEmbeddingSpec
from edgeq.compiler.kernels.tir import Expr, T
from edgeq.compiler.kernels.vectors import finish, folded, store16, units
from edgeq.compiler.target import Target

_PRODUCT_BOUND = 2**22  # of a s8 number by a s16 multiplier


def scaled_embedding(spec: ScaledEmbeddingSpec, target: Target) -> Expr:
    """The PrimFunc of a row lookup with a multiplier."""
    nest, isa = spec.nest, isa_of(target)
    parameters = [
        ("table", "s8", spec.rows * spec.row_bytes),
        ("multiplier", "s16", spec.rows),
        ("indices", spec.index_dtype, nest.extent(0)),
        ("y", spec.dtype, nest.extent(1) + spec.width - 1),
    ]
    elements = LANES * spec.parts
    full, rest = divmod(spec.width, elements)
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (table, multipliers, indices, y)):

        def one(offsets: Sequence[Expr], block: Expr) -> None:
            row = limited_row(indices, offsets[0], spec.rows, spec.index_dtype)
            multiplier = tir.bind(tir.cast("int32", tir.load(multipliers, row)))
            source, to = tir.bind(row * spec.row_bytes), offsets[1]
            if full:
                with T.serial(0, full) as number:
                    place = tir.bind(to + number * elements)
                    _block(isa, spec, (table, source + number * LANES), multiplier, (y, place), elements)
            if rest:
                _block(isa, spec, (table, source + full * LANES), multiplier, (y, to + full * elements), rest)

        loops.each_row(nest, spec.split(), t0, t1, one)
    return out[0]


def _block(
    isa: Isa,
    spec: ScaledEmbeddingSpec,
    source: tuple[Expr, Expr],
    multiplier: Expr,
    to: tuple[Expr, Expr],
    valid: int,
) -> None:
    """The first `valid` elements of a block; `source` and `to` are a buffer and a place in it."""
    (table, first), (y, place) = source, to
    constant, zero_point = folded((1 << spec.shift) >> 1, spec.zero_point, spec.shift, _PRODUCT_BOUND + 2**29)
    for start, width, _ in units(isa, LANES, LANES):
        packed = tir.vload(table, first + start, width)
        if spec.parts > 1:
            packed = tir.bind(tir.reinterpret(f"uint8x{width}", packed))
        for part in range(spec.parts):
            count = min(width, valid - part * LANES - start)
            if count <= 0:
                continue
            numbers = packed if spec.parts == 1 else narrow.unpack(packed, spec.bits, part)
            wide = tir.bind(tir.cast(f"int16x{width}", numbers))
            products = isa.weighted_pair(wide, isa.splat(0, "int16", width), multiplier, tir.const(0))
            sums = [isa.shift_right(p + isa.splat(constant, "int32", isa.lanes), spec.shift) for p in products]
            value = finish(isa, sums, zero_point, spec.low, spec.high, spec.dtype)
            store16(isa, y, place + (part * LANES + start), value, spec.dtype, count)
