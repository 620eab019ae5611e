"""Quantized weights, biases and tables."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from tests.frontend.models import model, ops, original, random_feeds, save, weights

S = np.float32(0.05)


def load(proto, tmp_path) -> frontend.FloatGraph:
    return frontend.load(save(proto, tmp_path))


def test_per_channel_weights_stay_integers(tmp_path):
    text = """g (float[1,3,4,4] x) => (float[1,5,2,2] y) {
        w = DequantizeLinear<axis=0>(qw, sw, zw)  b = DequantizeLinear(qb, sb)  y = Conv(x, w, b) }"""
    rng = np.random.default_rng(0)
    proto = model(
        text, qw=rng.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8), sw=np.abs(weights(5)) / 99 + np.float32(0.001),
        zw=np.zeros(5, np.int8), qb=rng.integers(-500, 500, 5).astype(np.int32), sb=np.float32(0.01),
    )  # fmt: skip
    graph = load(proto, tmp_path)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "Conv"]
    assert graph.nodes[0].inputs[0].const_value.numpy().dtype == np.int8
    assert graph.nodes[1].inputs[2].const_value.numpy().dtype == np.float32
    feeds = random_feeds(graph)
    np.testing.assert_allclose(graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], rtol=1e-4)


def test_affine_behind_quantized_weights_scales_their_scales(tmp_path):
    text = """g (float[1,3,4,4] x) => (float[1,5,2,2] y) {
        w = DequantizeLinear(qw, sw, zw)  c = Conv(x, w)  m = Mul(c, k)  y = Add(m, t) }"""
    rng = np.random.default_rng(0)
    proto = model(
        text, qw=rng.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8), sw=S, zw=np.int8(0),
        k=np.abs(weights(5, 1, 1)) + 1, t=weights(5, 1, 1),
    )  # fmt: skip
    graph = load(proto, tmp_path)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "Conv"]
    assert graph.nodes[0].inputs[1].shape == (5,)
    feeds = random_feeds(graph)
    np.testing.assert_allclose(
        graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], rtol=1e-4, atol=1e-4
    )


def test_negative_factors_make_quantized_weights_float(tmp_path):
    text = """g (float[1,3] x) => (float[1,5] y) {
        w = DequantizeLinear<axis=1>(qw, sw)  m = MatMul(x, w)  y = Mul(m, k) }"""
    qw = np.random.default_rng(0).integers(0, 255, (3, 5)).astype(np.uint8)
    proto = model(text, qw=qw, sw=np.full(5, S), k=-np.ones(5, np.float32))
    graph = load(proto, tmp_path)
    assert ops(graph) == {"MatMul": 1}
    feeds = random_feeds(graph)
    np.testing.assert_allclose(graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], rtol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_gemm_with_quantized_weights(tmp_path, axis):
    text = f"""g (float[1,3] x) => (float[1,5] y) {{
        w = DequantizeLinear<axis={axis}>(qw, sw)  y = Gemm<transB=1>(x, w, b) }}"""
    qw = np.random.default_rng(0).integers(0, 255, (5, 3)).astype(np.uint8)
    sw = np.linspace(0.01, 0.05, 5 if axis == 0 else 3, dtype=np.float32)
    proto = model(text, qw=qw, sw=sw, b=weights(5))
    graph = load(proto, tmp_path)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "MatMul", "Add"]
    feeds = random_feeds(graph)
    np.testing.assert_allclose(graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], rtol=1e-4)


def test_fake_quantized_weights_become_integers(tmp_path):
    """Quantization-aware training exports float weights behind Q and DQ, narrow ranges with a Clip between."""
    text = """g (float[1,3,4,4] x) => (float[1,5,2,2] y) {
        q = QuantizeLinear<axis=0>(w, sw, zw)  c = Clip(q, lo, hi)  d = DequantizeLinear<axis=0>(c, sw, zw)
        y = Conv(x, d) }"""
    proto = model(
        text, w=weights(5, 3, 3, 3), sw=np.full(5, 0.01, np.float32), zw=np.zeros(5, np.int8), lo=np.int8(-127),
        hi=np.int8(127),
    )  # fmt: skip
    graph = load(proto, tmp_path)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "Conv"]
    q = graph.nodes[0].inputs[0].const_value.numpy()
    assert q.min() >= -127
    feeds = random_feeds(graph)
    np.testing.assert_allclose(
        graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], rtol=1e-4, atol=1e-4
    )


def test_other_dequantized_constants_become_float(tmp_path):
    text = "g (float[1,4] x) => (float[1,4] y) { d = DequantizeLinear(q, s)  y = Add(x, d) }"
    graph = load(model(text, q=np.arange(4, dtype=np.uint8), s=S), tmp_path)
    assert ops(graph) == {"Unary": 1}
