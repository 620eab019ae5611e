"""Scales and shifts beside linear ops."""

from __future__ import annotations

import numpy as np

from tests.frontend.models import check, model, ops, weights

X = "g (float[1,4,6,6] x)"


def test_scale_without_bias_behind_matmul(tmp_path):
    text = "g (float[2,3,8] x) => (float[2,3,5] y) { m = MatMul(x, w)  y = Div(m, k) }"
    assert ops(check(model(text, w=weights(8, 5), k=np.float32(3.0)), tmp_path)) == {"MatMul": 1}


def test_scale_and_shift_behind_matmul_become_its_bias(tmp_path):
    text = "g (float[2,8] x) => (float[2,5] y) { m = MatMul(x, w)  s = Mul(k, m)  n = Neg(s)  y = Sub(c, n) }"
    graph = check(model(text, w=weights(8, 5), k=weights(5), c=weights(1, 5)), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}
    assert graph.nodes[1].inputs[1].shape == (5,)


def test_in_front_of_conv_without_padding(tmp_path):
    text = f"{X} => (float[1,6,4,4] y) {{ s = Sub(x, m)  d = Div(s, k)  y = Conv<group=2>(d, w, b) }}"
    graph = check(
        model(text, w=weights(6, 2, 3, 3), b=weights(6), m=weights(4, 1, 1), k=weights(1, 4, 1, 1) + 3), tmp_path
    )
    assert ops(graph) == {"Conv": 1}


def test_scale_alone_goes_into_a_padded_conv(tmp_path):
    text = f"{X} => (float[1,6,6,6] y) {{ d = Mul(x, k)  y = Conv<pads=[1,1,1,1]>(d, w) }}"
    assert ops(check(model(text, w=weights(6, 4, 3, 3), k=weights(4, 1, 1)), tmp_path)) == {"Conv": 1}


def test_in_front_of_matmul(tmp_path):
    text = "g (float[2,3,8] x) => (float[2,3,5] y) { s = Mul(x, k)  t = Add(s, c)  m = MatMul(t, w)  y = Add(b, m) }"
    graph = check(model(text, w=weights(8, 5), k=weights(8), c=weights(8), b=weights(5)), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}


def test_in_front_of_matmul_without_bias_makes_one(tmp_path):
    text = "g (float[2,8] x) => (float[2,5] y) { t = Add(x, c)  m = MatMul(t, w)  y = Relu(m) }"
    assert ops(check(model(text, w=weights(8, 5), c=weights(8)), tmp_path)) == {"MatMul": 1, "Add": 1, "Relu": 1}


def test_shift_in_front_of_a_matmul_that_is_the_output(tmp_path):
    text = "g (float[2,8] x) => (float[2,5] y) { t = Add(x, c)  y = MatMul(t, w) }"
    graph = check(model(text, w=weights(8, 5), c=weights(8)), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}
    assert [node.outputs[0].name for node in graph.nodes] == ["MatMul_1.product", "y"]


def test_division_by_zero_is_not_folded(tmp_path):
    text = f"{X} => (float[1,5,4,4] y) {{ c = Conv(x, w)  d = Div(c, k)  y = Clip(d, lo, hi) }}"
    k = np.array([1, 0, 2, 3, 4], np.float32).reshape(5, 1, 1)
    proto = model(text, w=weights(5, 4, 3, 3), k=k, lo=np.float32(-9), hi=np.float32(9))
    assert ops(check(proto, tmp_path)) == {"Conv": 1, "Unary": 1}
