"""TIR of requantize.py, and the writer of requantized sums that other families use. Imports tvm."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.compiler.kernels import loops, tir
from edgeq.compiler.kernels.base import DType, Epilogue
from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter
from edgeq.compiler.kernels.epilogue.epilogue import isa_of, parameter_words
from edgeq.compiler.kernels.epilogue.requantize import MulSpec, RequantizeSpec, Scales
from edgeq.compiler.kernels.tir import Expr
from edgeq.compiler.kernels.vectors import load16, load32, units
from edgeq.compiler.target import Target


def scale_parameters(epilogue: Epilogue, scales: Scales, target: Target) -> list[tuple[str, str, int]]:
    """(name, dtype, elements) of the weight operands, in the order of `Scales.operands` and the table behind."""
    words = parameter_words(epilogue, target, scales.layout(target))
    classes = [("classes", "s32", scales.entries)] if scales.walk == "classes" else []
    table = [("table", epilogue.dtype, 256)] if epilogue.lut else []
    return [("params", "s32", words), *classes, *table]


class ScaledWriter:
    """Requantizes s32 registers in natural order and stores them.

    Args:
        buffers: the operands that `scale_parameters` lists.
    """

    def __init__(self, epilogue: Epilogue, scales: Scales, target: Target, buffers: Sequence[Expr]) -> None:
        named = dict(zip([p[0] for p in scale_parameters(epilogue, scales, target)], buffers, strict=True))
        self.scales, self.lanes = scales, isa_of(target).lanes
        self.rounds = epilogue.form == "narrow"  # only then an accumulator starts from something else than 0
        self.classes = named.get("classes")
        self.emitter = EpilogueEmitter(
            epilogue, target, scales.layout(target), named["params"], table=named.get("table")
        )

    def position(self, entry: Expr, start: int = 0) -> Expr:
        """Place in the params for the scale entry of a vector's first element, `start` elements further."""
        if self.scales.walk == "one":
            return tir.const(0)
        if self.scales.walk == "lanes":
            return tir.bind(entry + start)
        return tir.bind(tir.load(self.classes, entry))

    def write(self, acc: Sequence[Expr], position: Expr, y: Expr, index: Expr, count: int) -> None:
        """Stores `count` elements from s32 registers that hold plain sums."""
        if self.rounds:
            rounding = self.emitter.bias(position, len(acc))
            acc = [value + r for value, r in zip(acc, rounding, strict=True)]
        self.emitter.write([tir.bind(a) for a in acc], position, y, index, count)


def requantize(spec: RequantizeSpec, target: Target) -> Expr:
    """The PrimFunc of a lone requantize."""
    isa, nest = isa_of(target), spec.nest
    vector = nest.vectorisable and not spec.scales.breaks_vectors(nest, 1)
    steps = loops.load_steps(nest, vector)
    extra = scale_parameters(spec.epilogue, spec.scales, target)
    parameters = [("x", spec.x_dtype, nest.extent(0)), *extra, ("y", spec.epilogue.dtype, nest.extent(2))]
    with tir.kernel(spec.symbol(target), parameters) as (out, t0, t1, (x, *weights, y)):
        writer = ScaledWriter(spec.epilogue, spec.scales, target, weights)

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            for start, width, count in units(isa, lanes, valid):
                acc = load32(x, offsets[0] + start * steps[0], steps[0], isa.lanes, width // isa.lanes)
                writer.write(acc, writer.position(offsets[1], start), y, offsets[2] + start, count)

        loops.sweep_any(nest, spec.split(), t0, t1, 2 * isa.lanes, emit, vector)
    return out[0]


def mul(spec: MulSpec, target: Target) -> Expr:
    """The PrimFunc of an elementwise product."""
    isa, nest = isa_of(target), spec.nest
    vector = nest.vectorisable and not spec.scales.breaks_vectors(nest, 2)
    steps = loops.load_steps(nest, vector)
    extra = scale_parameters(spec.epilogue, spec.scales, target)
    inputs = [("a", spec.a_dtype, nest.extent(0)), ("b", spec.b_dtype, nest.extent(1))]
    with tir.kernel(spec.symbol(target), [*inputs, *extra, ("y", spec.epilogue.dtype, nest.extent(3))]) as (
        out, t0, t1, (a, b, *weights, y),
    ):  # fmt: skip
        writer = ScaledWriter(spec.epilogue, spec.scales, target, weights)

        def side(buffer: Expr, index: Expr, dtype: DType, zero_point: int, step: int, width: int) -> list[Expr]:
            value = load16(buffer, index, dtype, step, width)
            if zero_point:
                value = tir.bind(value - isa.splat(zero_point, "int16", width))
            return [tir.cast(f"int32x{isa.lanes}", part) for part in isa.split(value, width // isa.lanes)]

        def emit(offsets: Sequence[Expr], lanes: int, valid: int) -> None:
            for start, width, count in units(isa, lanes, valid):
                left = side(a, offsets[0] + start * steps[0], spec.a_dtype, spec.a_zero_point, steps[0], width)
                right = side(b, offsets[1] + start * steps[1], spec.b_dtype, spec.b_zero_point, steps[1], width)
                acc = [p * q for p, q in zip(left, right, strict=True)]
                writer.write(acc, writer.position(offsets[2], start), y, offsets[3] + start, count)

        loops.sweep_any(nest, spec.split(), t0, t1, 2 * isa.lanes, emit, vector)
    return out[0]
