"""One-dimensional networks on images of height 1."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.models import check, model, ops, weights


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ("y = Conv<pads=[1,2], strides=[2], dilations=[2], group=2>(x, w, b)", "1,6,10"),
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', "1,6,20"),
        ("y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,1]>(x)", "1,4,10"),
        ("y = AveragePool<kernel_shape=[3], strides=[2], ceil_mode=1>(x)", "1,4,10"),
        ("y = GlobalAveragePool(x)", "1,4,1"),
        ("y = GlobalMaxPool(x)", "1,4,1"),
    ],
)
def test_single_ops(tmp_path, body, out):
    proto = model(f"g (float[1,4,20] x) => (float[{out}] y) {{ {body} }}")
    names = set(proto.graph.node[0].input)
    kernels = weights(6, 2 if "group" in body else 4, 3)
    extra = model("g (float[1] x) => (float[1] y) { y = Relu(x) }", w=kernels, b=weights(6))
    proto.graph.initializer.extend(item for item in extra.graph.initializer if item.name in names)
    graph = check(proto, tmp_path)
    found = ops(graph)
    assert found.pop("Reshape") in (1, 2)
    assert len(found) == 1
    assert all(len(value.shape) == 4 for node in graph.nodes if node.op_type != "Reshape" for value in node.outputs)


def test_transposed_conv(tmp_path):
    text = """g (float[1,4,9] x) => (float[1,3,19] y) {
        y = ConvTranspose<strides=[2], output_padding=[1], pads=[1,0]>(x, w) }"""
    assert ops(check(model(text, w=weights(4, 3, 3)), tmp_path)) == {"Reshape": 2, "ConvTranspose": 1}


def test_a_whole_network_has_a_reshape_at_each_end(tmp_path):
    text = """g (float[1,4,32] x) => (float[1,5] y) {
        c = Conv<pads=[1,1]>(x, w)  n = BatchNormalization(c, s, b, m, v)  r = Relu(n)
        d = Conv<pads=[1,1]>(r, u)  t = Sigmoid(d)  h = Mul(d, t)  a = Add(h, r)  k = PRelu(a, slope)
        j = Concat<axis=1>(k, r)  p = MaxPool<kernel_shape=[2], strides=[2]>(j)  g = GlobalAveragePool(p)
        f = Flatten(g)  y = Gemm<transB=1>(f, z) }"""
    six = weights(6)
    proto = model(
        text, w=weights(6, 4, 3), u=weights(6, 6, 3), s=six, b=six, m=six, v=np.abs(six) + 1, slope=weights(6, 1),
        z=weights(5, 12),
    )  # fmt: skip
    graph = check(proto, tmp_path)
    assert ops(graph) == {
        "Reshape": 2, "Conv": 2, "Relu": 1, "Unary": 1, "Add": 1, "PRelu": 1, "Concat": 1, "MaxPool": 1,
        "GlobalAveragePool": 1, "MatMul": 1,
    }  # fmt: skip
    assert graph.nodes[0].op_type == "Reshape"
    assert [node.op_type for node in graph.nodes][-2:] == ["Reshape", "MatMul"]
