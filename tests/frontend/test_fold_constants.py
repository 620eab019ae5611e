"""What depends on no input is computed."""

from __future__ import annotations

import numpy as np

from edgeq import frontend
from tests.frontend.models import check, model, ops, save, weights

X = "g (float[1,3,4,4] x)"
I64 = np.int64


def test_constant_subgraphs_fold(tmp_path):
    text = f"""{X} => (float[1,4,4,4] y) {{
        e = Exp(w)  t = Transpose<perm=[1,0,2,3]>(e)  n = Neg(t)  y = Conv(x, n) }}"""
    graph = check(model(text, w=weights(3, 4, 1, 1)), tmp_path)
    assert ops(graph) == {"Conv": 1}


def test_a_constant_that_would_be_huge_is_not_made(tmp_path):
    text = "g (float[1,4] x) => (float[1,4] y) { c = ConstantOfShape(s)  m = ReduceMax<keepdims=0>(c)  y = Add(x, m) }"
    graph = frontend.load(save(model(text, s=np.array([1 << 20, 1 << 20], I64)), tmp_path))
    assert "ConstantOfShape" in ops(graph)


def test_shape_arithmetic_folds(tmp_path):
    text = """g (float[n,3,h,w] x) => (float[n,k] y) {
        s = Shape(x)  b = Gather(s, zero)  u = Unsqueeze(b, axes)  t = Concat<axis=0>(u, minus)  y = Reshape(x, t) }"""
    proto = model(text, zero=np.int64(0), axes=np.array([0]), minus=np.array([-1]))
    graph = check(proto, tmp_path, shapes={"x": (2, 3, 4, 5)})
    assert [node.op_type for node in graph.nodes] == ["Reshape"]
    assert graph.nodes[0].inputs[1].const_value.numpy().tolist() == [2, 60]


def test_split_shapes_fold(tmp_path):
    text = """g (float[n,3,h,w] x) => (float[a,b,c,d] y) {
        s = Shape(x)  p, q = Split(s, two)  d = Mul(q, k)  t = Concat<axis=0>(p, d)
        y = Resize<mode="nearest">(x, , , t) }"""
    proto = model(text, two=np.array([2, 2]), k=np.array([2]))
    graph = check(proto, tmp_path, shapes={"x": (1, 3, 4, 5)})
    assert [node.op_type for node in graph.nodes] == ["Resize"]
    assert tuple(graph.outputs[0].shape) == (1, 3, 8, 10)


def test_constant_attributes(tmp_path):
    text = """g (float[1,2] x) => (float[1,2] y) {
        a = Constant<value_float = 2.0>()  b = Constant<value_floats = [1.0, 3.0]>()
        s = Constant<value_ints = [1, 2]>()  m = Mul(x, a)  n = Add(m, b)  y = Reshape(n, s) }"""
    graph = check(model(text), tmp_path)
    assert ops(graph) == {"Unary": 1}
