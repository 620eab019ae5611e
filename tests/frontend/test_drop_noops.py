"""Data movement that moves nothing, constants that fold, stock rules."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from tests.frontend.models import check, model, ops, save, weights

X = "g (float[1,3,4,4] x)"
Y = "(float[1,3,4,4] y)"
I64 = np.int64


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(r)",
        "y = Dropout(r)",
        "y = Cast<to=1>(r)",
        "y = Reshape(r, same)",
        "y = Expand(r, ones)",
        "y = Slice(r, zero, many, one)",
        "y = Pad(r, nothing)",
        "y = Concat<axis=1>(r)",
        "y = Transpose<perm=[0,1,2,3]>(r)",
        'y = Resize<mode="nearest">(r, , unit)',
        "a = Unsqueeze(r, zero)  y = Squeeze(a, zero)",
        "a = Transpose<perm=[0,2,3,1]>(r)  y = Transpose<perm=[0,3,1,2]>(a)",
        "a = Reshape(r, flat)  y = Reshape(a, same)",
        "a = Flatten(r)  y = Reshape(a, same)",
        "a = Add(r, z)  b = Mul(a, u)  c = Sub(b, z)  y = Div(c, u)",
    ],
)
def test_gone(tmp_path, body):
    constants = {
        "same": np.array([1, 3, 4, 4], I64), "ones": np.array([1, 1, 1, 1], I64), "zero": np.array([0], I64),
        "many": np.array([1 << 40], I64), "one": np.array([2], I64), "nothing": np.zeros(8, I64),
        "unit": np.ones(4, np.float32), "flat": np.array([1, 48], I64), "z": np.float32(0), "u": np.float32(1),
    }  # fmt: skip
    used = {name: array for name, array in constants.items() if f" {name}" in body}
    graph = check(model(f"{X} => {Y} {{ r = Relu(x)  {body} }}", **used), tmp_path)
    assert ops(graph) == {"Relu": 1}
    assert graph.outputs[0].name == "y"


def test_an_input_that_is_the_output(tmp_path):
    graph = check(model(f"{X} => {Y} {{ y = Identity(x) }}"), tmp_path)
    assert ops(graph) == {"Identity": 1}


def test_one_value_under_two_output_names(tmp_path):
    text = f"{X} => (float[1,3,4,4] y, float[1,3,4,4] z) {{ r = Relu(x)  y = Identity(r)  z = Identity(r) }}"
    graph = check(model(text), tmp_path)
    assert [value.name for value in graph.outputs] == ["y", "z"]


def test_a_reversing_slice_stays(tmp_path):
    proto = model(
        f"{X} => {Y} {{ y = Slice(x, start, end, axis, step) }}",
        start=np.array([-1]), end=np.array([-100]), axis=np.array([3]), step=np.array([-1]),
    )  # fmt: skip
    assert ops(check(proto, tmp_path)) == {"Slice": 1}


def test_a_transpose_of_single_pixels_is_a_reshape(tmp_path):
    text = "g (float[1,8,1,1] x) => (float[1,1,1,8] y) { r = Relu(x)  y = Transpose<perm=[0,2,3,1]>(r) }"
    assert ops(check(model(text), tmp_path)) == {"Relu": 1, "Reshape": 1}


def test_targets_of_reshapes_are_written_out(tmp_path):
    text = "g (float[n,3,4,4] x) => (float[n,k] y) { y = Reshape(x, t) }"
    graph = check(model(text, t=np.array([0, -1], I64)), tmp_path, batch=2)
    assert graph.nodes[0].inputs[1].const_value.numpy().tolist() == [2, 48]


def test_constant_subgraphs_fold(tmp_path):
    text = f"""{X} => (float[1,4,4,4] y) {{
        e = Exp(w)  t = Transpose<perm=[1,0,2,3]>(e)  n = Neg(t)  y = Conv(x, n) }}"""
    graph = check(model(text, w=weights(3, 4, 1, 1)), tmp_path)
    assert ops(graph) == {"Conv": 1}


def test_a_constant_that_would_be_huge_is_not_made(tmp_path):
    text = "g (float[1,4] x) => (float[1,4] y) { c = ConstantOfShape(s)  m = ReduceMax<keepdims=0>(c)  y = Add(x, m) }"
    graph = frontend.load(save(model(text, s=np.array([1 << 20, 1 << 20], I64)), tmp_path))
    assert "ConstantOfShape" in ops(graph)


def test_pad_goes_into_conv(tmp_path):
    text = f"{X} => (float[1,5,5,4] y) {{ p = Pad(x, pads)  y = Conv<pads=[0,1,0,1]>(p, w) }}"
    graph = check(model(text, pads=np.array([0, 0, 1, 0, 0, 0, 2, 0], I64), w=weights(5, 3, 3, 3)), tmp_path)
    (conv,) = graph.nodes
    assert list(conv.attributes["pads"].as_ints()) == [1, 1, 2, 1]


def test_pad_with_another_value_stays(tmp_path):
    text = f"{X} => (float[1,5,4,4] y) {{ p = Pad(x, pads, v)  y = Conv(p, w) }}"
    proto = model(text, pads=np.array([0, 0, 1, 1, 0, 0, 1, 1], I64), v=np.float32(1), w=weights(5, 3, 3, 3))
    assert ops(check(proto, tmp_path)) == {"Pad": 1, "Conv": 1}


def test_min_of_max_is_a_clip(tmp_path):
    text = f"{X} => {Y} {{ a = Max(x, lo)  y = Min(a, hi) }}"
    assert ops(check(model(text, lo=np.float32(-1), hi=np.float32(2)), tmp_path)) == {"Clip": 1}


def test_common_subexpressions(tmp_path):
    text = f"{X} => {Y} {{ a = Conv(x, w)  b = Conv(x, w)  y = Add(a, b) }}"
    assert ops(check(model(text, w=weights(3, 3, 1, 1)), tmp_path)) == {"Conv": 1, "Unary": 1}


def test_names_survive_the_rules(tmp_path):
    text = f"{X} => (float[1,48] y) {{ r = Relu(x)  a = Flatten(r)  y = Reshape(a, flat) }}"
    proto = model(text, flat=np.array([1, 48], I64))
    for node, name in zip(proto.graph.node, ("act", "flatten", "head"), strict=True):
        node.name = name
    graph = check(proto, tmp_path)
    assert [node.name for node in graph.nodes] in (["act", "head"], ["act", "flatten"])


def test_nodes_get_names_of_their_own(tmp_path):
    proto = model(f"{X} => {Y} {{ a = Relu(x)  b = Softmax(a)  c = Relu(b)  d = Softmax(c)  y = Relu(d) }}")
    for node, name in zip(proto.graph.node, ("same", "same", "", "Relu_2", ""), strict=True):
        node.name = name
    names = [node.name for node in frontend.load(save(proto, tmp_path)).nodes]
    assert len(set(names)) == 5
    assert names[0] == "same"
    assert all(names)
