"""Whole integer graphs through lowering, planning, linking and the runtime: the reference's bits, on every target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeq import runtime
from edgeq.compiler import KernelBuilder, load_target
from edgeq.compiler.program import Program
from edgeq.integer import reference
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.graph import IntegerGraph
from tests.support import programs
from tests.support.graphs import Layers
from tests.support.programs import FOREIGN, NATIVE


def residual_block(m: Layers) -> list[ir.Value]:
    x = m.input(1, 3, 12, 10)
    stem = m.conv(x, 16, 3, stride=2, low=-3)
    deep = m.conv(m.conv(stem, 16, 3, group=16), 16, 1)
    return [m.gemm(m.emit("Flatten", m.add(deep, stem), axis=1), 10)]


def concat_with_halo(m: Layers) -> list[ir.Value]:
    """Two producers write their slices of one padded buffer; another reader takes one of the slices."""
    x = m.input(1, 8, 9, 9)
    left, right = m.lut(m.conv(x, 24, 1)), m.conv(x, 8, 3)
    both = m.emit("Concat", left, right, axis=1)
    return [m.conv(both, 12, 3), m.conv(left, 4, 5)]


def nested_concats(m: Layers) -> list[ir.Value]:
    x = m.input(1, 4, 8, 8)
    a, b, c = (m.conv(x, n, 1) for n in (4, 8, 12))
    inner = m.emit("Concat", a, b, axis=1)
    return [m.conv(m.emit("Concat", inner, c, a, axis=1), 8, 3)]


def focus(m: Layers) -> list[ir.Value]:
    """Strided slices of the input into channels, as detectors begin."""
    x = m.input(1, 3, 16, 12)
    parts = []
    for dy, dx in ((0, 0), (1, 0), (0, 1), (1, 1)):
        ends = np.array([16, 12])
        starts, axes, steps = (np.array(v) for v in ([dy, dx], [2, 3], [2, 2]))
        parts.append(m.emit("Slice", x, starts, ends, axes, steps))
    return [m.conv(m.emit("Concat", *parts, axis=1), 8, 3)]


def detection_head(m: Layers) -> list[ir.Value]:
    """Channels-last memory makes the reshape and the transpose views."""
    x = m.input(1, 8, 8, 8)
    heads = []
    for stride in (1, 2):
        y = m.conv(x, 12, 3, stride=stride)
        assert y.shape is not None
        heads.append(m.emit("Reshape", y, np.array([1, 12, -1])))
    return [m.emit("Transpose", m.emit("Concat", *heads, axis=2), perm=[0, 2, 1])]


def shuffled_channels(m: Layers) -> list[ir.Value]:
    x = m.input(1, 12, 6, 6)
    y = m.emit("Reshape", m.conv(x, 12, 1), np.array([1, 3, 4, 6, 6]))
    y = m.emit("Reshape", m.emit("Transpose", y, perm=[0, 2, 1, 3, 4]), np.array([1, 12, 6, 6]))
    return [m.conv(y, 8, 3)]


def depth_and_space(m: Layers) -> list[ir.Value]:
    x = m.input(1, 4, 6, 8)
    deep = m.emit("SpaceToDepth", m.conv(x, 4, 3), blocksize=2)
    return [
        m.emit("DepthToSpace", m.conv(deep, 16, 1), blocksize=2),
        m.emit("DepthToSpace", deep, blocksize=2, mode="CRD"),
    ]


def several_ends(m: Layers) -> list[ir.Value]:
    """A value that is read on and also handed out; a value handed out twice."""
    x = m.input(1, 8, 7, 7)
    y = m.conv(x, 8, 3)
    return [y, m.conv(y, 8, 3), m.emit("Identity", y)]


def split_and_gather(m: Layers) -> list[ir.Value]:
    x = m.input(1, 8, 5, 6)
    y = m.conv(x, 12, 1)
    first = m.emit("Slice", y, np.array([0]), np.array([5]), np.array([1]))
    picked = m.emit("Gather", y, np.array([7, 1, 4]), axis=1)
    row = m.emit("Gather", y, np.array(2), axis=2)
    return [m.conv(first, 6, 3), m.conv(picked, 4, 3), row]


def read_slice_of_an_output(m: Layers) -> list[ir.Value]:
    """What is written straight into an output is read on as well: kernels want it as they store bytes."""
    x = m.input(1, 20, 1, 1)
    left, right = m.conv(x, 24, 1), m.conv(x, 24, 1)
    return [m.emit("Concat", left, right, axis=1), m.conv(left, 24, 1, group=24)]


def explicit_pad(m: Layers) -> list[ir.Value]:
    x = m.input(1, 4, 6, 6)
    padded = m.emit("Pad", m.conv(x, 8, 1), np.array([0, 0, 1, 2, 0, 0, 0, 1]), np.array(-3, np.int8))
    return [m.conv(padded, 8, 3, stride=2)]


def batch_of_two(m: Layers) -> list[ir.Value]:
    x = m.input(2, 3, 9, 9)
    y = m.conv(m.conv(x, 8, 3, stride=2), 8, 3, group=8)
    return [m.gemm(m.emit("Flatten", y, axis=1), 7)]


def dilated_and_grouped(m: Layers) -> list[ir.Value]:
    x = m.input(1, 8, 12, 12)
    return [m.conv(m.conv(x, 16, 3, dilation=2, group=2), 16, 3, dilation=3, group=16)]


def broadcast_add(m: Layers) -> list[ir.Value]:
    x = m.input(1, 8, 6, 6)
    y = m.conv(x, 8, 3)
    constant = m.rng.integers(-128, 128, (1, 8, 1, 1)).astype(np.int8)
    return [m.conv(m.add(y, m.builder.constant(constant)), 4, 1)]


def token_rows(m: Layers) -> list[ir.Value]:
    """Rank 3, rows of features, as transformers have them."""
    x = m.input(1, 8, 4, 4)
    rows = m.emit("Transpose", m.emit("Reshape", m.conv(x, 16, 1), np.array([1, 16, 16])), perm=[0, 2, 1])
    return [m.add(m.gemm(m.lut(m.gemm(rows, 32)), 16), rows)]


def transposed(m: Layers) -> list[ir.Value]:
    x = m.input(1, 6, 5, 4)
    bias = np.zeros((1, 8, 1, 1), np.int32)
    geometry = {"strides": [2, 3], "pads": [1, 0, 1, 2], "output_padding": [1, 0], "x_zero_point": -3}
    acc = m.emit("ConvTranspose", m.conv(x, 6, 1), m.weights(6, 8, 3, 3), bias, **geometry)
    return [m.conv(m.narrow(acc, (1, 8, 1, 1), 20_000), 4, 3)]


def pools(m: Layers) -> list[ir.Value]:
    x = m.input(1, 8, 11, 10)
    y = m.conv(x, 16, 3)
    top = m.emit("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    large = m.emit("MaxPool", y, kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2])
    total = m.emit("SumPool", y, kernel_shape=[11, 10], strides=[1, 1], pads=[0, 0, 0, 0], x_zero_point=-3)
    return [m.conv(top, 8, 3), large, m.narrow(total, (1, 1, 1, 1), 400)]


def resized(m: Layers) -> list[ir.Value]:
    """Twice as large into a concatenation; and by a factor that isn't whole."""
    x = m.input(1, 8, 6, 6)
    small = m.conv(x, 8, 3, stride=2)
    none = m.builder.constant(np.zeros(0, np.float32))
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    big = m.emit("Resize", small, none, np.array([1, 1, 2, 2], np.float32), **modes)
    odd = m.emit("Resize", small, none, none, np.array([1, 8, 5, 7]), **modes)
    return [m.conv(m.emit("Concat", big, m.conv(x, 4, 1), axis=1), 8, 3), odd]


def reductions(m: Layers) -> list[ir.Value]:
    """Means, maxima and indices over the axes of an image and of rows."""
    x = m.input(1, 16, 6, 5)
    y = m.conv(x, 24, 3)
    mean = m.narrow(m.emit("ReduceSum", y, axes=[2, 3], keepdims=0, x_zero_point=-3), (1,), 250)
    lines = m.narrow(m.emit("ReduceSum", y, axes=[1], keepdims=1, x_zero_point=-3), (1, 1, 1, 1), 200)
    largest = m.emit("ReduceMax", y, np.array([3]), keepdims=0)
    return [m.gemm(mean, 9), lines, largest, m.emit("ArgMax", y, axis=1, keepdims=0)]


def attention(m: Layers) -> list[ir.Value]:
    """Two heads: rows against rows, softmax, rows again."""
    x = m.input(1, 12, 32)
    heads = []
    for axes in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        rows = m.emit("Reshape", m.gemm(x, 32), np.array([1, 12, 2, 16]))
        heads.append(m.emit("Transpose", rows, perm=axes))
    query, key, value = heads
    scores = m.emit("MatMul", query, key, a_zero_point=-3, b_zero_point=-3)
    constants = softmax_constants(2e-4, 12, 8).attributes()
    shares = m.emit("Softmax", scores, axis=-1, **constants, zero_point=-128, to=3)
    mixed = m.emit("MatMul", shares, value, a_zero_point=-128, b_zero_point=-3)
    merged = m.emit("Transpose", m.narrow(mixed, (1,), 8000), perm=[0, 2, 1, 3])
    return [m.gemm(m.emit("Reshape", merged, np.array([1, 12, 32])), 16)]


def quotient_and_bilinear(m: Layers) -> list[ir.Value]:
    x = m.input(1, 8, 5, 6)
    y, z = m.conv(x, 8, 3), m.conv(x, 8, 1)
    sides = {"a_zero_point": -3, "b_zero_point": -100, "multiplier": 20000, "shift": 9}
    divided = m.emit("Div", y, z, **sides, zero_point=-3, low=-128, high=127, to=3)
    return [m.conv(divided, 8, 1), m.emit("ResizeLinear", y, out_h=9, out_w=13, mode="half_pixel")]


def products(m: Layers) -> list[ir.Value]:
    """Squeeze and excite: a product with one value for each channel."""
    x = m.input(1, 16, 5, 5)
    y = m.conv(x, 16, 3)
    total = m.emit("SumPool", y, kernel_shape=[5, 5], strides=[1, 1], pads=[0, 0, 0, 0], x_zero_point=-3)
    gate = m.conv(m.narrow(total, (1, 1, 1, 1), 400), 16, 1)
    acc = m.emit("Mul", y, gate, a_zero_point=-3, b_zero_point=-3)
    return [m.conv(m.narrow(acc, (1, 1, 1, 1), 1600), 8, 1)]


GRAPHS: dict[str, Callable[[Layers], list[ir.Value]]] = {
    f.__name__: f
    for f in (
        residual_block, concat_with_halo, nested_concats, focus, detection_head, shuffled_channels, depth_and_space,
        several_ends, split_and_gather, explicit_pad, batch_of_two, dilated_and_grouped, broadcast_add, token_rows,
        transposed, pools, resized, products, reductions,
        attention, quotient_and_bilinear, read_slice_of_an_output,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def graph_named(name: str) -> IntegerGraph:
    return programs.graph_named(GRAPHS, name)


def inputs_of(graph: IntegerGraph, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [
        {v.name: rng.integers(-128, 128, [int(d) for d in v.shape]).astype(np.int8) for v in graph.model.graph.inputs}
        for _ in range(count)
    ]


def build(graph: IntegerGraph, target: str, path: Path, pool: KernelBuilder) -> Program:
    """With two random input sets as golden vectors."""
    return programs.build(graph, target, path, pool, inputs_of(graph, 2))


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("name", GRAPHS)
def test_native_code_gives_the_references_bits(name, target, tmp_path, builder):
    graph = graph_named(name)
    path = tmp_path / "model.edgeq"
    build(graph, target, path, builder)
    model = runtime.load(path)
    for threads in (1, 3):
        assert model.verify(threads=threads) == 2


@pytest.mark.emulated
@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("name", GRAPHS)
def test_emulated_code_gives_the_references_bits(name, target, tmp_path, builder):
    graph = graph_named(name)
    path = tmp_path / "model.edgeq"
    build(graph, target, path, builder)
    assert runtime.load(path).verify(threads=2) == 2


def test_golden_vectors_are_lively():
    """Bits that are all clamped would prove nothing."""
    for name in GRAPHS:
        graph = graph_named(name)
        seen = [reference.run(graph, inputs) for inputs in inputs_of(graph, 4)]  # an output may have 10 values a run
        for output in seen[0]:
            assert len(np.unique([each[output] for each in seen])) > 6, name


@pytest.mark.parametrize(
    ("name", "expected"), [("residual_block", 1), ("concat_with_halo", 0), ("detection_head", 2), ("nested_concats", 1)]
)
def test_no_copy_where_strides_can_say_it(name, expected, tmp_path, builder):
    """Only the flatten of channels-last pixels, reshaped parts of a concatenation, a slice that two of them want."""
    program = build(graph_named(name), NATIVE[0] if NATIVE else "arm-neon", tmp_path / "m.edgeq", builder)
    inner = [s for s in program.steps if s.ops == ("Copy",) and s.name not in ("x", "y0", "y1", "y2")]
    assert len(inner) <= expected
    assert not [s for s in inner if name == "detection_head" and "tiles" in s.spec.describe(load_target("arm-neon"))]
