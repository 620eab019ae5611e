"""Matrix products in one spelling."""

from __future__ import annotations

import itertools

import pytest

from tests.frontend.models import check, model, ops, weights

GEMMS = list(itertools.product([0, 1], [0, 1], ["", "n", "1n", "m1", "mn", "1"]))


@pytest.mark.parametrize(("trans_a", "trans_b", "bias"), GEMMS)
def test_gemm(tmp_path, trans_a, trans_b, bias):
    a = "8,2" if trans_a else "2,8"
    shapes = {"n": (5,), "1n": (1, 5), "m1": (2, 1), "mn": (2, 5), "1": (1,)}
    constants = {"w": weights(*((5, 8) if trans_b else (8, 5)))}
    if bias:
        constants["b"] = weights(*shapes[bias], seed=1)
    text = f"""g (float[{a}] x) => (float[2,5] y) {{
        y = Gemm<transA={trans_a}, transB={trans_b}, alpha=0.5, beta=3.0>(x, w{", b" if bias else ""}) }}"""
    graph = check(model(text, **constants), tmp_path)
    found = ops(graph)
    assert found.pop("Transpose", 0) == trans_a
    assert found.pop("Add", 0) == bool(bias)
    assert found == {"MatMul": 1}
    matmul = next(node for node in graph.nodes if node.op_type == "MatMul")
    assert tuple(matmul.inputs[1].shape) == (8, 5)
    if bias in ("n", "1n", "1"):
        assert tuple(graph.nodes[-1].inputs[1].shape) == (5,)


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_of_two_tensors(tmp_path, trans):
    b = "5,8" if trans else "8,5"
    text = f"""g (float[2,8] x, float[{b}] z, float[5] v) => (float[2,5] y) {{
        y = Gemm<transB={trans}, alpha=2.0, beta=0.5>(x, z, v) }}"""
    found = ops(check(model(text), tmp_path))
    assert found.pop("Transpose", 0) == trans
    assert found == {"MatMul": 1, "Unary": 2, "Add": 1}


def test_gemm_without_its_bias(tmp_path):
    text = "g (float[2,8] x, float[5] v) => (float[2,5] y) { y = Gemm<beta=0.0>(x, w, v) }"
    assert ops(check(model(text, w=weights(8, 5)), tmp_path)) == {"MatMul": 1}


def test_gemm_keeps_its_name(tmp_path):
    proto = model("g (float[2,8] x) => (float[2,5] y) { y = Gemm(x, w, b) }", w=weights(8, 5), b=weights(5))
    proto.graph.node[0].name = "classifier"
    graph = check(proto, tmp_path)
    assert [node.name for node in graph.nodes] == ["classifier", "classifier.bias_add"]


@pytest.mark.parametrize("shape", [(5,), (1, 1, 5), (1,), ()])
def test_biases_become_vectors(tmp_path, shape):
    text = "g (float[2,3,8] x) => (float[2,3,5] y) { m = MatMul(x, w)  y = Add(b, m) }"
    graph = check(model(text, w=weights(8, 5), b=weights(*shape)), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}
    assert tuple(graph.nodes[1].inputs[1].shape) == (5,)


def test_a_sum_of_another_shape_is_no_bias(tmp_path):
    text = "g (float[2,3,8] x) => (float[2,3,5] y) { m = MatMul(x, w)  y = Add(m, b) }"
    graph = check(model(text, w=weights(8, 5), b=weights(3, 5)), tmp_path)
    assert tuple(graph.nodes[1].inputs[1].shape) == (3, 5)
