"""TIR of lut.py. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.isa.base import Isa
from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import TVM_DTYPE
from edgeq.compiler.kernels.epilogue.emit import store_lanes
from edgeq.compiler.kernels.epilogue.epilogue import isa_of
from edgeq.compiler.kernels.nonlinear.lut import LutInterpSpec, LutSpec
from edgeq.compiler.kernels.tir import Expr
from edgeq.compiler.target import Target


def lut(spec: LutSpec, target: Target) -> Expr:
    """The PrimFunc of a table lookup."""
    isa, nest = isa_of(target), spec.nest
    high_plane = 256 * spec.rows
    entries = high_plane * (2 if spec.dtype == "s16" else 1)
    parameters = [("x", "u8", nest.extent(0)), ("table", "u8", entries), ("y", spec.dtype, nest.extent(2))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, table, y)):

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            index = tir.vload(x, offsets[0], lanes)
            if spec.x_dtype == "s8":
                index = index ^ tir.broadcast(tir.const(128, "uint8"), lanes)
            index = tir.bind(index)
            value = isa.lookup(index, table, offsets[1])
            if spec.dtype == "s16":
                value = _zipped(value, isa.lookup(index, table, offsets[1] + high_plane), lanes)
            else:
                value = tir.reinterpret(f"{TVM_DTYPE[spec.dtype]}x{lanes}", value)
            store_lanes(y, offsets[2], value, valid)

        def one(offsets: Sequence[Expr]) -> None:
            byte = tir.load(x, offsets[0])
            if spec.x_dtype == "s8":
                byte = byte ^ tir.const(128, "uint8")
            place = tir.bind(offsets[1] + tir.cast("int32", byte))
            value = tir.load(table, place)
            if spec.dtype == "s16":
                upper = tir.cast("int32", tir.load(table, place + high_plane)) * 256
                value = tir.cast("int32", value) + upper
            store_value = tir.cast(TVM_DTYPE[spec.dtype], value)
            tir.store(y, offsets[2], store_value)

        vectorised = type(isa).lookup is not Isa.lookup
        if nest.inner_strides == (1, 0, 1) and vectorised:
            loops.sweep(nest, spec.split(), t0, t1, target.vector_bytes, emit)
        else:
            loops.sweep_scalar(nest, spec.split(), t0, t1, one)
    return out[0]


def _zipped(low: Expr, high: Expr, lanes: int) -> Expr:
    """Low and high bytes -> s16 lanes."""
    order = [lane for i in range(lanes) for lane in (i, lanes + i)]
    return tir.reinterpret(f"int16x{lanes}", tir.shuffle([tir.bind(low), tir.bind(high)], order))


def lut_interp(spec: LutInterpSpec, target: Target) -> Expr:
    """The PrimFunc of an interpolated lookup."""
    nest = spec.nest
    parameters = [("x", "s16", nest.extent(0)), ("table", "s32", 512), ("y", spec.dtype, nest.extent(1))]
    half = (1 << spec.shift) >> 1
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, table, y)):

        def one(offsets: Sequence[Expr]) -> None:
            op = tir.tirx.op
            position = tir.bind(tir.cast("int32", tir.load(x, offsets[0])) + 32768)
            pair = tir.bind(tir.load(table, op.shift_right(position, tir.const(7))))
            fraction = tir.bind(position & 127)
            first, second = (
                tir.cast("int32", tir.cast("int16", pair)),
                op.shift_right(pair, tir.const(16)),
            )
            value = first * (128 - fraction) + second * fraction
            # |value| <= 2^22 and the clamp is narrower than 2^16: nothing here leaves 32 bits.
            rounded = op.shift_right(value + half, tir.const(spec.shift)) + spec.zero_point
            clamped = tir.tirx.max(tir.tirx.min(rounded, tir.const(spec.high)), tir.const(spec.low))
            tir.store(y, offsets[1], tir.cast(TVM_DTYPE[spec.dtype], clamped))

        loops.sweep_scalar(nest, spec.split(), t0, t1, one)
    return out[0]
