"""BatchNorm as a scale and a shift."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from edgeq.errors import UnsupportedOpError
from tests.frontend.models import batchnorm, check, model, ops, save, weights

X = "g (float[1,4,6,6] x)"


def test_batchnorm_behind_conv(tmp_path):
    text = (
        f"{X} => (float[1,5,6,6] y) {{ c = Conv<pads=[1,1,1,1]>(x, w, b)  y = BatchNormalization(c, ga, be, mu, va) }}"
    )
    graph = check(model(text, w=weights(5, 4, 3, 3), b=weights(5), **batchnorm(5)), tmp_path)
    assert ops(graph) == {"Conv": 1}


def test_batchnorm_behind_conv_with_shared_weights(tmp_path):
    text = f"""{X} => (float[1,4,6,6] y) {{
        a = Conv<pads=[1,1,1,1]>(x, w)  n = BatchNormalization(a, ga, be, mu, va)
        y = Conv<pads=[1,1,1,1]>(n, w) }}"""
    assert ops(check(model(text, w=weights(4, 4, 3, 3), **batchnorm(4)), tmp_path)) == {"Conv": 2}


@pytest.mark.parametrize("group", [1, 2])
def test_batchnorm_behind_transposed_conv(tmp_path, group):
    text = f"""{X} => (float[1,6,12,12] y) {{
        c = ConvTranspose<strides=[2,2], pads=[1,1,1,1], group={group}>(x, w)
        y = BatchNormalization(c, ga, be, mu, va) }}"""
    graph = check(model(text, w=weights(4, 6 // group, 4, 4), **batchnorm(6)), tmp_path)
    assert ops(graph) == {"ConvTranspose": 1}


def test_batchnorm_behind_gemm(tmp_path):
    text = """g (float[2,8] x) => (float[2,5] y) {
        c = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)  y = BatchNormalization(c, ga, be, mu, va) }"""
    graph = check(model(text, w=weights(5, 8), b=weights(5), **batchnorm(5)), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}


def test_dense_batchnorm_written_out(tmp_path):
    text = """g (float[1,8] x) => (float[1,5] y) {
        m = MatMul(x, w)  a = Add(m, b)  s = Mul(a, k)  t = Add(s, c)  y = Relu(t) }"""
    graph = check(model(text, w=weights(8, 5), b=weights(5), k=weights(5), c=weights(5)), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["MatMul", "Add", "Relu"]


def test_the_folded_conv_keeps_its_name(tmp_path):
    proto = model(
        f"{X} => (float[1,5,4,4] y) {{ c = Conv(x, w)  n = BatchNormalization(c, ga, be, mu, va)  y = Relu(n) }}",
        w=weights(5, 4, 3, 3), **batchnorm(5),
    )  # fmt: skip
    proto.graph.node[0].name, proto.graph.node[1].name = "stem/conv", "stem/bn"
    graph = check(proto, tmp_path)
    assert [node.name for node in graph.nodes] == ["stem/conv", "Relu_2"]
    assert [node.outputs[0].name for node in graph.nodes] == ["n", "y"]


def test_training_batchnorm(tmp_path):
    text = """g (float[1,4,3,3] x) => (float[1,4,3,3] y) {
        y, m, v = BatchNormalization<training_mode=1>(x, s, b, me, va) }"""
    four = weights(4)
    proto = model(text, s=four, b=four, me=four, va=np.abs(four))
    with pytest.raises(UnsupportedOpError, match=r"BatchNormalization '.*' is in training mode"):
        frontend.load(save(proto, tmp_path))
