"""Scales, packed projections and chains of data movement around attention."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.frontend.views import numbering, view_of
from tests.frontend.models import check, model, ops, weights

ROOT = np.array(8**-0.25, np.float32)


def test_scales_of_both_sides_sink_behind_the_product(tmp_path):
    text = """g (float[1,4,8] q, float[1,4,8] k) => (float[1,4,4] y) {
        a = Mul(q, s)  b = Mul(k, s)  t = Transpose<perm=[0,2,1]>(b)  l = MatMul(a, t)  y = Softmax<axis=-1>(l) }"""
    graph = check(model(text, s=ROOT), tmp_path)
    assert ops(graph) == {"Transpose": 1, "MatMul": 1, "Unary": 1, "Softmax": 1}
    product = next(node for node in graph.nodes if node.op_type == "MatMul")
    scaled = next(node for node in graph.nodes if node.domain)
    assert scaled.inputs[0] is product.outputs[0]
    assert graph.unary(scaled)(np.array([1.0]))[0] == pytest.approx(8**-0.5)


def test_scales_stay_where_no_softmax_follows(tmp_path):
    text = """g (float[1,4,8] q, float[1,8,4] k) => (float[1,4,4] y) { a = Mul(q, s)  y = MatMul(a, k) }"""
    graph = check(model(text, s=ROOT), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Unary_0", "MatMul"]


@pytest.mark.parametrize("scale", [np.array(-0.5, np.float32), weights(8)])
def test_negative_scales_and_scales_per_channel_do_not_sink(scale, tmp_path):
    text = """g (float[1,4,8] q, float[1,8,4] k) => (float[1,4,4] y) {
        a = Mul(q, s)  l = MatMul(a, k)  y = Softmax<axis=-1>(l) }"""
    assert next(node.op_type for node in check(model(text, s=scale), tmp_path).nodes) == "Unary_0"


PACKED = {
    "split": "a, b, c = Split<axis=-1>(p, sizes)  s = Add(a, b)  y = Sub(s, c)",
    "slices": "a = Slice(p, i0, i4, two)  b = Slice(p, i4, i8, two)  c = Slice(p, i8, i12, two)"
    "  s = Add(a, b)  y = Sub(s, c)",
    "gather": "r = Reshape(p, five)  t = Transpose<perm=[2,0,1,3]>(r)  a = Gather<axis=0>(t, z0)"
    "  b = Gather<axis=0>(t, z1)  c = Gather<axis=0>(t, z2)  s = Add(a, b)  y = Sub(s, c)",
    "by head": "r = Reshape(p, heads)  a4 = Gather<axis=3>(r, z0)  b4 = Gather<axis=3>(r, z1)"
    "  c4 = Gather<axis=3>(r, z2)  a = Reshape(a4, out)  b = Reshape(b4, out)"
    "  c = Reshape(c4, out)  s = Add(a, b)  y = Sub(s, c)",
}
SIZES = {
    "sizes": np.array([4, 4, 4]), "i0": np.array([0]), "i4": np.array([4]), "i8": np.array([8]),
    "i12": np.array([12]),
    "two": np.array([2]), "five": np.array([1, 5, 3, 4]), "heads": np.array([1, 5, 2, 3, 2]),
    "out": np.array([1, 5, 4]),
    "z0": np.array(0), "z1": np.array(1), "z2": np.array(2),
}  # fmt: skip


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("way", PACKED)
def test_packed_projection_becomes_three(way, biased, tmp_path):
    product = "m = MatMul(x, w)  p = Add(m, bias)" if biased else "p = MatMul(x, w)"
    text = f"g (float[1,5,6] x) => (float[1,5,4] y) {{ {product}  {PACKED[way]} }}"
    used = {name: array for name, array in SIZES.items() if f"{name})" in text or f" {name}," in text}
    bias = {"bias": weights(12, seed=1)} if biased else {}
    found = ops(check(model(text, w=weights(6, 12), **bias, **used), tmp_path))
    assert found["MatMul"] == 3
    assert not {"Split", "Slice", "Gather"} & set(found)


def test_columns_that_two_readers_share_stay_packed(tmp_path):
    text = """g (float[1,5,6] x) => (float[1,5,8] y) {
        p = MatMul(x, w)  a = Slice(p, i0, i8, two)  b = Slice(p, i4, i12, two)  y = Add(a, b) }"""
    used = {name: SIZES[name] for name in ("i0", "i4", "i8", "i12", "two")}
    assert ops(check(model(text, w=weights(6, 12), **used), tmp_path))["MatMul"] == 1


def test_product_that_is_also_read_whole_stays_packed(tmp_path):
    text = """g (float[1,5,6] x) => (float[1,5,4] y, float[1,5,12] z) {
        p = MatMul(x, w)  a, b, c = Split<axis=-1>(p, sizes)  s = Add(a, b)  y = Sub(s, c)  z = Tanh(p) }"""
    assert ops(check(model(text, w=weights(6, 12), sizes=SIZES["sizes"]), tmp_path))["MatMul"] == 1


def test_movement_chain_merges(tmp_path):
    text = """g (float[1,6,8] x) => (float[1,2,4,6] y) {
        a = Reshape(x, s4)  b = Transpose<perm=[0,2,1,3]>(a)  c = Reshape(b, s3)  d = Transpose<perm=[0,2,1]>(c)
        y = Reshape(d, s5) }"""
    shapes = {"s4": np.array([1, 6, 2, 4]), "s3": np.array([2, 6, 4]), "s5": np.array([1, 2, 4, 6])}
    graph = check(model(text, **shapes), tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Reshape", "Transpose"]
    assert list(graph.nodes[1].attributes["perm"].as_ints()) == [0, 2, 3, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False), st.integers(0, 4))
def test_views_rebuild_what_they_read(shape, random, joins):
    elements = numbering(tuple(shape))
    elements = elements.transpose(random.sample(range(elements.ndim), elements.ndim))
    for _ in range(joins):
        if elements.ndim > 1:
            k = random.randrange(elements.ndim - 1)
            elements = elements.reshape(*elements.shape[:k], -1, *elements.shape[k + 2 :])
    view = view_of(elements)
    if view is not None:
        rebuilt = np.arange(elements.size).reshape(view.split).transpose(view.perm).reshape(view.shape)
        np.testing.assert_array_equal(rebuilt, elements)
    else:
        assert joins  # without joined axes there is always one
