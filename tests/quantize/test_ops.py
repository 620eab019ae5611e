"""Every op: float model -> integer graph. The reference and ONNX Runtime agree bit by bit, and with the float model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq.frontend import FloatGraph
from edgeq.integer import oracle, reference
from edgeq.quantize import Policy, QuantizeOptions, quantize
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.samples.data import from_arrays
from edgeq.quantize.session import input_specs
from tests.quantize.models import ModelMaker, samples

Make = Callable[[ModelMaker], str]


def conv(m: ModelMaker, x: str, channels: int = 4, **attributes: object) -> str:
    """A 1×1 convolution, so that an op under test reads a computed tensor."""
    return m.node("Conv", [x, m.weights(channels, 4, 1, 1), m.weights(channels)], **attributes)


def unary(op: str, **attributes: object) -> Make:
    return lambda m: m.node(op, [conv(m, m.input("x", 1, 4, 6, 6))], **attributes)


def binary(op: str) -> Make:
    def make(m: ModelMaker) -> str:
        x = m.input("x", 1, 4, 6, 6)
        return m.node(op, [conv(m, x), conv(m, x)])

    return make


def division(m: ModelMaker) -> str:
    x = m.input("x", 1, 4, 6, 6)
    below = m.node("Add", [m.node("Abs", [conv(m, x)]), m.constant(np.float32(1))])
    return m.node("Div", [conv(m, x), below])


def spread(m: ModelMaker) -> str:
    """Squeeze and excite: a product that broadcasts."""
    x = m.input("x", 1, 4, 6, 6)
    gate = m.node("Sigmoid", [conv(m, m.node("GlobalAveragePool", [x]))])
    return m.node("Mul", [x, gate])


def moved(op: str, *more: np.ndarray, **attributes: object) -> Make:
    def make(m: ModelMaker) -> str:
        x = conv(m, m.input("x", 1, 4, 6, 6))
        return m.node(op, [x, *(m.constant(array) for array in more)], **attributes)

    return make


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def resize(mode: str, **attributes: object) -> Make:
    def make(m: ModelMaker) -> str:
        x = conv(m, m.input("x", 1, 4, 5, 6))
        return m.node("Resize", [x, "", "", m.constant(ints(1, 4, 10, 9))], mode=mode, **attributes)

    return make


def weighted(op: str, shape: tuple[int, ...], **attributes: object) -> Make:
    def make(m: ModelMaker) -> str:
        channels = shape[1] * int(attributes.get("group", 1)) if op == "ConvTranspose" else shape[0]  # type: ignore[call-overload]
        return m.node(op, [m.input("x", 1, 4, 9, 9), m.weights(*shape), m.weights(channels)], **attributes)

    return make


def gemm(m: ModelMaker) -> str:
    return m.node("Gemm", [m.input("x", 1, 20), m.weights(7, 20), m.weights(7)], transB=1)


def matmul_rank3(m: ModelMaker) -> str:
    y = m.node("MatMul", [m.input("x", 1, 5, 8), m.weights(8, 6)])
    return m.node("Relu", [m.node("Add", [y, m.weights(6)])])


def matmul_dynamic(m: ModelMaker) -> str:
    x = m.input("x", 1, 5, 8)
    return m.node("MatMul", [x, m.node("Transpose", [x], perm=[0, 2, 1])])


def concat(m: ModelMaker) -> str:
    x = m.input("x", 1, 4, 6, 6)
    small = m.node("Mul", [conv(m, x), m.constant(np.float32(0.01))])
    # The small part has another reader, so it keeps its own scale and is rescaled for the concatenation.
    joined = m.node("Concat", [conv(m, x), small], axis=1)
    reader = m.node("Conv", [small, m.constant(100 * np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1))])
    return m.node("Concat", [joined, reader], axis=1)


def split(m: ModelMaker) -> str:
    x = conv(m, m.input("x", 1, 4, 6, 6))
    a = m.node("Split", [x, m.constant(ints(1, 3))], ["part_a", "part_b"], axis=1)
    return m.node("Mul", [a, "part_b"])


def softmax(m: ModelMaker) -> str:
    return m.node("Softmax", [m.node("Gemm", [m.input("x", 1, 20), m.weights(20, 7)])], axis=1)


def softmax_inside(m: ModelMaker) -> str:
    p = m.node("Softmax", [m.input("x", 1, 3, 9)], axis=2)
    return m.node("MatMul", [p, m.weights(9, 4)])


def prelu(m: ModelMaker) -> str:
    return m.node("PRelu", [conv(m, m.input("x", 1, 4, 6, 6)), m.constant(np.full((4, 1, 1), 0.2, np.float32))])


def relu_behind_concat(m: ModelMaker) -> str:
    x = m.input("x", 1, 4, 6, 6)
    return m.node("Relu", [m.node("Concat", [conv(m, x), conv(m, x)], axis=1)])


def constant_tensor(op: str) -> Make:
    """One side is a constant that is neither scalar nor per channel."""

    def make(m: ModelMaker) -> str:
        x = conv(m, m.input("x", 1, 4, 6, 6))
        return m.node(op, [x, m.constant(m.random.uniform(1, 2, (1, 4, 6, 6)).astype(np.float32))])

    return make


def sub_negative(m: ModelMaker) -> str:
    x = m.input("x", 1, 4, 6, 6)
    return m.node("Clip", [m.node("Sub", [conv(m, x), x]), m.constant(np.float32(-1)), m.constant(np.float32(0.5))])


CASES: dict[str, Make] = {
    "conv": weighted("Conv", (6, 4, 3, 3), pads=[1, 0, 1, 2], strides=[2, 1]),
    "conv grouped": weighted("Conv", (6, 2, 3, 3), group=2, dilations=[2, 2]),
    "depthwise": weighted("Conv", (8, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "conv transpose": weighted("ConvTranspose", (4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    "conv transpose grouped": weighted("ConvTranspose", (4, 3, 2, 2), group=2, strides=[2, 2]),
    "gemm": gemm,
    "matmul rank 3": matmul_rank3,
    "matmul dynamic": matmul_dynamic,
    "add": binary("Add"),
    "sub clip": sub_negative,
    "mul": binary("Mul"),
    "div": division,
    "max": binary("Max"),
    "min": binary("Min"),
    "broadcast": spread,
    "add constant": constant_tensor("Add"),
    "mul constant": constant_tensor("Mul"),
    "max constant": constant_tensor("Max"),
    "sigmoid": unary("Sigmoid"),
    "tanh": unary("Tanh"),
    "leaky relu": unary("LeakyRelu"),
    "elu": unary("Elu"),
    "hard swish": unary("HardSwish"),
    "hard sigmoid": unary("HardSigmoid"),
    "softplus": unary("Softplus"),
    "erf": unary("Erf"),
    "exp": unary("Exp"),
    "abs": unary("Abs"),
    "neg": unary("Neg"),
    "prelu": prelu,
    "relu alone": relu_behind_concat,
    "max pool": unary("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average pool": unary("AveragePool", kernel_shape=[2, 3], strides=[2, 1]),
    "average pool padded": unary("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average pool counted": unary("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "global average pool": unary("GlobalAveragePool"),
    "global max pool": unary("GlobalMaxPool"),
    "reduce mean": moved("ReduceMean", ints(2, 3), keepdims=1),
    "reduce mean channels": moved("ReduceMean", ints(1), keepdims=0),
    "reduce sum": moved("ReduceSum", ints(-1), keepdims=0),
    "reduce max": moved("ReduceMax", ints(1), keepdims=0),
    "concat": concat,
    "split": split,
    "slice": moved("Slice", ints(1, 0), ints(6, 4), ints(2, 1), ints(2, 2)),
    "pad": moved("Pad", ints(0, 0, 1, 2, 0, 0, 0, 1)),
    "pad value": moved("Pad", ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)),
    "pad edge": moved("Pad", ints(0, 0, 1, 2, 0, 0, 0, 1), mode="edge"),
    "reshape": moved("Reshape", ints(1, -1, 12)),
    "transpose": unary("Transpose", perm=[0, 2, 3, 1]),
    "squeeze": moved("Squeeze", ints(0)),
    "unsqueeze": moved("Unsqueeze", ints(0)),
    "flatten": unary("Flatten"),
    "expand": moved("Expand", ints(3, 4, 6, 6)),
    "gather": moved("Gather", ints(3, 0, 1), axis=1),
    "depth to space": unary("DepthToSpace", blocksize=2),
    "space to depth": unary("SpaceToDepth", blocksize=2),
    "resize nearest": resize("nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "resize linear": resize("linear", coordinate_transformation_mode="half_pixel"),
    "resize corners": resize("linear", coordinate_transformation_mode="align_corners"),
    "softmax": softmax,
    "softmax inside": softmax_inside,
}


def check(graph: FloatGraph, policy: str = "", least: float = 25.0) -> None:
    """Quantize; reference = ONNX Runtime; both near the float model (signal to noise in dB)."""
    data = from_arrays(input_specs(graph.graph), samples(graph))
    result = quantize(graph, data, QuantizeOptions(policy=Policy.parse(policy)))
    session = oracle.Session(result.graph, threads=1)
    for feed in data.feeds(4):
        integers = quantize_inputs(result.graph, feed)
        expected, found = reference.run(result.graph, integers), session.run(integers)
        for name, value in expected.items():
            assert np.array_equal(value, found[name])
            assert value.shape == tuple(int(dim) for dim in graph.value(name).shape)
    assert all(output.sqnr_db >= least for output in result.report.outputs), result.report.outputs


@pytest.mark.parametrize("name", CASES)
def test_op(name: str, tmp_path: Path) -> None:
    m = ModelMaker()
    check(m.graph(tmp_path, CASES[name](m)))


@pytest.mark.parametrize("name", CASES)
def test_op_in_s16(name: str, tmp_path: Path) -> None:
    """Everything that can be s16 is; only the 8-bit ends and 8-bit weights are left to cause errors."""
    m = ModelMaker()
    graph = m.graph(tmp_path, CASES[name](m))
    inputs = "".join(f"  {value.name}: {{activation: s8}}\n" for value in graph.inputs)
    check(graph, "defaults: {activation: s16}\nlayers:\n" + inputs, least=28.0)


def test_arg_max_gives_indices(tmp_path: Path) -> None:
    m = ModelMaker()
    logits = m.node("Gemm", [m.input("x", 1, 20), m.weights(20, 7)])
    graph = m.graph(tmp_path, m.node("ArgMax", [logits], axis=1))
    data = from_arrays(input_specs(graph.graph), samples(graph))
    result = quantize(graph, data)
    feed = data.feed(0)
    found = reference.run(result.graph, quantize_inputs(result.graph, feed))
    ((name, index),) = found.items()
    assert index.dtype == np.int64
    assert np.array_equal(index, graph.run(feed)[name])
