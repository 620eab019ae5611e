"""Elementwise sub-graphs, and the functions read off them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import ModelError
from tests.frontend.models import check, model, ops, original, weights

X = "g (float[1,4,5,5] x)"
Y = "(float[1,4,5,5] y)"


def evaluate(proto, points):
    """The source model on chosen points, through ONNX Runtime: x is [1, 4, 5, 5]."""
    flat = np.resize(points, 100).reshape(1, 4, 5, 5).astype(np.float32)
    return flat, original(proto.SerializeToString(), {"x": flat})["y"]


def test_silu(tmp_path):
    graph = check(model(f"{X} => {Y} {{ s = Sigmoid(x)  y = Mul(x, s) }}"), tmp_path)
    (node,) = graph.nodes
    assert (node.domain, node.op_type) == ("edgeq.float", "Unary_0")
    assert node.metadata_props["edgeq.label"] == "SiLU"
    points = np.array([-3.0, 0.0, 2.5])
    np.testing.assert_allclose(graph.unary(node)(points), points / (1 + np.exp(-points)), rtol=1e-12)


@pytest.mark.parametrize(
    ("body", "label"),
    [
        ("a = Div(x, r)  e = Erf(a)  o = Add(e, one)  m = Mul(x, o)  y = Mul(m, half)", "GELU"),
        ("a = Add(x, three)  c = Clip(a, zero, six)  m = Mul(x, c)  y = Div(m, six)", "HardSwish"),
        ("p = Softplus(x)  t = Tanh(p)  y = Mul(x, t)", "Mish"),
        ("a = Mul(x, qg)  s = Sigmoid(a)  y = Mul(s, x)", "QuickGELU"),
        ("y = Mul(x, x)", "Square"),
        ("y = Mul(x, three)", "Affine"),
        ("a = Exp(x)  y = Add(a, one)", "Exp+Add"),
    ],
)
def test_known_functions(tmp_path, body, label):
    scalars = {"r": math.sqrt(2), "one": 1, "half": 0.5, "three": 3, "six": 6, "zero": 0, "qg": 1.702}
    used = {name: np.float32(value) for name, value in scalars.items() if f" {name})" in body or f" {name}," in body}
    graph = check(model(f"{X} => {Y} {{ {body} }}", **used), tmp_path)
    assert [node.metadata_props["edgeq.label"] for node in graph.nodes] == [label]


def test_equal_functions_are_one(tmp_path):
    body = "s = Sigmoid(x)  a = Mul(x, s)  c = Conv(a, w)  t = Sigmoid(c)  y = Mul(c, t)"
    graph = check(model(f"{X} => {Y} {{ {body} }}", w=weights(4, 4, 1, 1)), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Unary_0", "Conv", "Unary_0"]
    assert len(graph.model.functions) == 1


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "HardSwish", "Erf", "Exp", "LeakyRelu", "Softplus", "Elu"])
def test_a_lone_op_stays(tmp_path, op):
    graph = check(model(f"{X} => {Y} {{ y = {op}(x) }}"), tmp_path)
    assert ops(graph) == {op: 1}
    assert graph.is_unary(graph.nodes[0])


def test_prelu_per_channel(tmp_path):
    slope = weights(4, 1, 1)
    graph = check(model(f"{X} => {Y} {{ y = PRelu(x, s) }}", s=slope), tmp_path)
    function = graph.unary(graph.nodes[0])
    assert (function.axis, function.channels) == (1, 4)
    found = function([-2.0, 3.0])
    np.testing.assert_allclose(found, np.stack([-2.0 * slope.ravel(), np.full(4, 3.0)], 1), rtol=1e-6)


def test_per_channel_points(tmp_path):
    graph = check(model(f"{X} => {Y} {{ a = Mul(x, k)  y = Tanh(a) }}", k=weights(4, 1, 1)), tmp_path)
    function = graph.unary(graph.nodes[0])
    points = np.arange(8.0).reshape(4, 2)
    np.testing.assert_allclose(function(points), np.tanh(points * weights(4, 1, 1).reshape(4, 1)), rtol=1e-12)


def test_channels_on_the_last_axis(tmp_path):
    text = "g (float[1,3,4] x) => (float[1,3,4] y) { a = Mul(x, k)  y = Tanh(a) }"
    graph = check(model(text, k=weights(4)), tmp_path)
    function = graph.unary(graph.nodes[0])
    assert (function.axis, function.channels) == (2, 4)
    np.testing.assert_allclose(function([1.0]), np.tanh(weights(4).astype(np.float64).reshape(4, 1)), rtol=1e-12)


def test_constants_along_two_axes_are_two_functions(tmp_path):
    graph = check(
        model(f"{X} => {Y} {{ a = Mul(x, k)  t = Tanh(a)  y = Mul(t, l) }}", k=weights(4, 1, 1), l=weights(5)), tmp_path
    )
    assert ops(graph) == {"Unary": 2}
    assert [graph.unary(node).axis for node in graph.nodes] == [1, 3]


def test_a_full_constant_is_no_function(tmp_path):
    graph = check(model(f"{X} => {Y} {{ y = Add(x, k) }}", k=weights(1, 4, 5, 5)), tmp_path)
    assert ops(graph) == {"Add": 1}
    with pytest.raises(ModelError, match="Add 'Add_0' is not an elementwise function of one tensor"):
        graph.unary(graph.nodes[0])


def test_two_tensors_are_no_function(tmp_path):
    text = f"g (float[1,4,5,5] x, float[1,4,5,5] z) => {Y} {{ s = Sigmoid(z)  m = Mul(x, s)  y = Tanh(m) }}"
    graph = check(model(text), tmp_path)
    assert ops(graph) == {"Sigmoid": 1, "Mul": 1, "Tanh": 1}
    assert [graph.is_unary(node) for node in graph.nodes] == [True, False, True]


def test_a_relu_behind_a_conv_is_left_to_its_clamp(tmp_path):
    body = "c = Conv(x, w)  r = Relu(c)  e = Exp(r)  y = Add(e, k)"
    graph = check(model(f"{X} => {Y} {{ {body} }}", w=weights(4, 4, 1, 1), k=np.float32(1)), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Conv", "Relu", "Unary_0"]


def test_an_interior_value_that_is_read_elsewhere_starts_the_next_function(tmp_path):
    text = f"{X} => {Y} {{ a = Mul(x, k)  t = Tanh(a)  c = Conv(t, w)  e = Exp(t)  f = Neg(e)  y = Add(c, f) }}"
    graph = check(model(text, k=np.float32(0.5), w=weights(4, 4, 1, 1)), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Unary_0", "Conv", "Unary_1", "Add"]
    assert graph.nodes[2].inputs[0].name == "t"


def test_a_function_doesnt_start_at_a_side_branch(tmp_path):
    text = f"{X} => (float[1,4,5,5] y, float[1,4,5,5] s) {{ s = Sigmoid(x)  y = Mul(x, s) }}"
    graph = check(model(text), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Sigmoid", "Unary_0"]
    assert graph.nodes[1].inputs[0].name == "x"


def test_select_by_comparison(tmp_path):
    text = f"{X} => {Y} {{ g = Greater(x, k)  e = Exp(x)  n = Neg(e)  y = Where(g, x, n) }}"
    graph = check(model(text, k=np.float32(0.25)), tmp_path)
    assert ops(graph) == {"Unary": 1}
    np.testing.assert_allclose(graph.unary(graph.nodes[0])([1.0, -1.0]), [1.0, -math.exp(-1)])


def test_integers_are_no_function(tmp_path):
    text = "g (int64[1,4] x) => (int64[1,4] y) { a = Add(x, k)  y = Mul(a, k) }"
    assert ops(check(model(text, k=np.int64(3)), tmp_path)) == {"Add": 1, "Mul": 1}


ONE_INPUT = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round",
    "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
]  # fmt: skip


@pytest.mark.parametrize("op", ONE_INPUT)
def test_evaluators_agree_with_onnx_runtime(tmp_path, op):
    proto = model(f"{X} => {Y} {{ y = {op}(x) }}", opset=20)
    flat, expected = evaluate(proto, np.concatenate([np.linspace(-4, 4, 60), np.linspace(-1, 1, 38), [0.5, 2.5]]))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    from edgeq import frontend

    graph = frontend.load(tmp_path / "m.onnx")
    found = graph.unary(graph.nodes[0])(flat.ravel())
    np.testing.assert_allclose(found, expected.ravel(), rtol=3e-5, atol=3e-6)


ATTRIBUTES = [
    "Elu<alpha=0.5>", "LeakyRelu<alpha=0.3>", "HardSigmoid<alpha=0.3, beta=0.4>", "Celu<alpha=2.0>",
    "Selu<alpha=1.2, gamma=1.5>", "ThresholdedRelu<alpha=0.7>", 'Gelu<approximate="tanh">',
]  # fmt: skip


@pytest.mark.parametrize("op", ATTRIBUTES)
def test_attributes_are_read(tmp_path, op):
    from edgeq import frontend

    proto = model(f"{X} => {Y} {{ y = {op}(x) }}", opset=20)
    flat, expected = evaluate(proto, np.linspace(-4, 4, 100))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    graph = frontend.load(tmp_path / "m.onnx")
    np.testing.assert_allclose(graph.unary(graph.nodes[0])(flat.ravel()), expected.ravel(), rtol=3e-5, atol=3e-6)


def test_extreme_points_give_no_warning(tmp_path):
    graph = check(model(f"{X} => {Y} {{ s = Sigmoid(x)  y = Mul(x, s) }}"), tmp_path)
    with np.errstate(all="raise"):
        found = graph.unary(graph.nodes[0])([-1e30, 1e30, 0.0])
    np.testing.assert_array_equal(found, [0.0, 1e30, 0.0])


_STEPS = st.lists(
    st.tuples(st.sampled_from(["Sigmoid", "Tanh", "Relu", "Abs", "Neg", "Mul", "Add", "Max", "Sub", "Clip", "PRelu"]),
              st.integers(0, 9), st.integers(0, 9), st.sampled_from(["tensor", "scalar", "channel"])),
    min_size=1, max_size=9,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_STEPS, st.lists(st.integers(0, 9), min_size=1, max_size=2))
def test_random_elementwise_graphs(tmp_path_factory, steps, exits):
    """Diamonds, shared values, several exits: the same result, and every function agrees with its node."""
    names, lines = ["x", "z"], []
    scalar, channel = np.float32(0.75), weights(4, 1, 1)
    for number, (op, first, second, kind) in enumerate(steps):
        left = names[first % len(names)]
        right = {"tensor": names[second % len(names)], "scalar": "sc", "channel": "ch"}[kind]
        operands = {"Clip": f"{left}, lo, hi", "PRelu": f"{left}, ch"}.get(op)
        if operands is None:
            operands = left if op in ("Sigmoid", "Tanh", "Relu", "Abs", "Neg") else f"{left}, {right}"
        lines.append(f"v{number} = {op}({operands})")
        names.append(f"v{number}")
    outs = {f"v{k % len(steps)}" for k in exits}
    shape = "float[1,4,5,5]"
    signature = f"g ({shape} x, {shape} z) => ({', '.join(f'{shape} {name}' for name in sorted(outs))})"
    proto = model(f"{signature} {{ {'  '.join(lines)} }}", sc=scalar, ch=channel, lo=np.float32(-0.5), hi=np.float32(1))
    graph = check(proto, tmp_path_factory.mktemp("random"))
    kept = graph.run({name: weights(1, 4, 5, 5, seed=k) for k, name in enumerate(("x", "z"))},
                     keep=[v.name for v in graph.values()])  # fmt: skip
    for node in graph.nodes:
        if graph.is_unary(node):
            x, y = (kept[value.name].astype(np.float64) for value in (node.inputs[0], node.outputs[0]))
            function = graph.unary(node)
            if function.axis == 1:
                np.testing.assert_allclose(function(x.reshape(4, -1)), y.reshape(4, -1), rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_allclose(function(x.ravel()), y.ravel(), rtol=1e-4, atol=1e-4)
