"""Layers of transformers as whole integer graphs: the reference's bits on every target, nothing copied in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeq import runtime
from edgeq.artifact.float_free import require
from edgeq.compiler import KernelBuilder
from edgeq.compiler.program import Program
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.graph import IntegerGraph, Quant
from edgeq.integer.normalization import norm_constants
from edgeq.integer.shift_exp import shift_gelu_constants, shiftmax_constants
from tests.support import programs
from tests.support.graphs import INT8, ZERO_POINT, Layers
from tests.support.programs import FOREIGN, NATIVE

UINT8, INT16 = 2, 5
TOKENS, WIDTH, HEADS = 21, 48, 3
DEPTH = WIDTH // HEADS
CLAMP8 = {"zero_point": ZERO_POINT, "low": -128, "high": 127, "to": INT8}
CLAMP16 = {"zero_point": 0, "low": -32768, "high": 32767, "to": INT16}


def norm(m: Layers, x: ir.Value, kind: str = "LayerNorm") -> ir.Value:
    """From any width to int8."""
    length = int(x.shape[-1])  # type: ignore[index, arg-type]
    beta = m.rng.normal(0, 0.3, length) if kind == "LayerNorm" else None
    constants = norm_constants(m.rng.normal(1, 0.3, length), beta, 1e-5, 0.05, 0.02)
    channels = [constants.gamma] if beta is None else [constants.gamma, constants.beta]
    return m.emit(kind, x, *channels, **constants.attributes(), **CLAMP8)


def heads(m: Layers, x: ir.Value, axes: list[int]) -> ir.Value:
    rows = m.emit("Reshape", x, np.array([1, TOKENS, HEADS, DEPTH]))
    return m.emit("Transpose", rows, perm=axes)


def attention(m: Layers, x: ir.Value, softmax: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Queries, keys and values by Gemm; the scores stay accumulators."""
    query, key, value = (heads(m, m.gemm(x, WIDTH), axes) for axes in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scores = m.emit("MatMul", query, key, a_zero_point=ZERO_POINT, b_zero_point=ZERO_POINT)
    mixed = m.emit("MatMul", softmax(scores), value, b_zero_point=ZERO_POINT)
    merged = m.emit("Transpose", m.narrow(mixed, (1,), 2**8 * 70), perm=[0, 2, 1, 3])
    return m.gemm(m.emit("Reshape", merged, np.array([1, TOKENS, WIDTH])), WIDTH)


def wide_sum(m: Layers, a: ir.Value, b: ir.Value, b_zero_point: int) -> ir.Value:
    """A residual sum kept in 16 bits."""
    sides = {"a_zero_point": ZERO_POINT, "a_multiplier": 20000, "b_zero_point": b_zero_point, "b_multiplier": 300}
    if b_zero_point:
        sides["b_multiplier"] = 17000
    return m.emit("Add", a, b, **sides, shift=9, **CLAMP16)


def vision(m: Layers) -> list[ir.Value]:
    """Normalised in front, a class token, GELU by shifts (a table, for bytes)."""
    x = m.input(1, TOKENS - 1, WIDTH)
    token = m.weights(1, 1, WIDTH)
    x = m.emit("Concat", token, x, axis=1)
    exp2 = softmax_constants(2e-4, TOKENS, 8).attributes()
    mixed = attention(m, norm(m, x), lambda s: m.emit("Softmax", s, axis=-1, **exp2, zero_point=0, to=UINT8))
    x = m.add(mixed, x)
    gelu = shift_gelu_constants(0.05, 0.05, np.int8).attributes()
    hidden = m.emit("ShiftGelu", m.gemm(norm(m, x), 2 * WIDTH), x_zero_point=ZERO_POINT, **gelu, **CLAMP8)
    x = norm(m, m.add(m.gemm(hidden, WIDTH), x), "RmsNorm")
    first = m.emit("Slice", x, *(np.array([n]) for n in (0, 1, 1)))
    return [m.gemm(m.emit("Reshape", first, np.array([1, WIDTH])), 10)]


def language(m: Layers) -> list[ir.Value]:
    """Token numbers and a mask as they are given, 16-bit sums and probabilities, GELU of 16 bits."""
    plain = Quant(np.dtype(np.int64), 1.0, 0)
    ids, given = (m.builder.input(name, np.int64, (1, TOKENS), plain) for name in ("ids", "mask"))
    x = m.emit("Embedding", m.weights(50, WIDTH), ids)
    mask = m.emit("Reshape", m.emit("ToMask", given, to=INT8), np.array([1, 1, 1, TOKENS]))
    shift = shiftmax_constants(2e-4, TOKENS, 15).attributes()
    mixed = attention(m, x, lambda s: m.emit("MaskedShiftmax", s, mask, axis=-1, **shift, **CLAMP16))
    stream = wide_sum(m, mixed, x, ZERO_POINT)
    gelu = shift_gelu_constants(1e-4, 1e-4, np.int16).attributes()
    wide = m.emit("ShiftGelu", wide_sum(m, m.gemm(norm(m, stream), WIDTH), stream, 0), **gelu, **CLAMP16)
    ratio = {"multiplier": 2**20, "shift": 27, "x_zero_point": 0}
    return [norm(m, wide), m.emit("Rescale", wide, **ratio, **CLAMP8)]


def cross(m: Layers) -> list[ir.Value]:
    """Matrices of any rank whose operands have no contiguous rows, and a mask for every element."""
    x, mask = m.input(2, 9, 5, 7), m.input(2, 9, 5, 5, name="mask")
    turned = m.emit("Transpose", x, perm=[0, 3, 2, 1])  # 2, 7, 5, 9
    product = m.emit("MatMul", m.emit("Transpose", x, perm=[0, 1, 2, 3]), m.emit("Transpose", x, perm=[0, 1, 3, 2]))
    exp2 = softmax_constants(1e-4, 5, 8).attributes()
    shares = m.emit("MaskedSoftmax", product, mask, axis=-2, **exp2, zero_point=-128, to=INT8)
    other = m.emit("MatMul", turned, m.emit("Transpose", turned, perm=[0, 1, 3, 2]), b_zero_point=5)
    return [shares, m.narrow(other, (1,), 73 * 73 * 3), norm(m, turned)]


GRAPHS: dict[str, Callable[[Layers], list[ir.Value]]] = {f.__name__: f for f in (vision, language, cross)}


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def graph_named(name: str) -> IntegerGraph:
    return programs.graph_named(GRAPHS, name)


def inputs_of(graph: IntegerGraph, count: int) -> list[dict[str, np.ndarray]]:
    """Random bytes; token numbers also outside the table, masks of 0 and anything else."""
    rng = np.random.default_rng(1)
    sets = []
    for _ in range(count):
        values = {}
        for v in graph.model.graph.inputs:
            shape = [int(d) for d in v.shape]
            if v.name == "ids":
                values[v.name] = rng.choice(np.array([0, 3, 17, 49, 50, -1, 2**40, -(2**62)]), shape)
            elif v.name == "mask" and v.dtype == ir.DataType.INT64:
                values[v.name] = rng.choice(np.array([0, 1, 2**33]), shape)
            else:
                values[v.name] = rng.integers(-128, 128, shape).astype(np.int8)
        sets.append(values)
    return sets


def build(graph: IntegerGraph, target: str, path: Path, pool: KernelBuilder) -> Program:
    """With two random input sets as golden vectors."""
    return programs.build(graph, target, path, pool, inputs_of(graph, 2))


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("name", GRAPHS)
def test_native_code_gives_the_references_bits(name, target, tmp_path, builder):
    path = tmp_path / "model.edgeq"
    program = build(graph_named(name), target, path, builder)
    model = runtime.load(path)
    for threads in (1, 3):
        assert model.verify(threads=threads) == 2
    assert require(path).instructions > 100
    ends = {"x", "ids", "mask", "y0", "y1", "y2", *(g.name for g in program.outputs)}
    inner = [s.name for s in program.steps if s.ops == ("Copy",) and s.name not in ends]
    # The class token and the tokens behind it are put together; nothing else moves.
    assert len(inner) <= {"vision": 2, "language": 0, "cross": 4}[name], inner


@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("name", GRAPHS)
def test_emulated_code_gives_the_references_bits(name, target, tmp_path, builder):
    path = tmp_path / "model.edgeq"
    build(graph_named(name), target, path, builder)
    assert runtime.load(path).verify(threads=2) == 2
    assert require(path).instructions > 100


def test_golden_vectors_are_lively():
    from edgeq.integer import reference

    for name in GRAPHS:
        graph = graph_named(name)
        for output in reference.run(graph, inputs_of(graph, 1)[0]).values():
            assert len(np.unique(output)) > 6, name
