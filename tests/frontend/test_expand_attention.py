"""The op Attention."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from edgeq.errors import ModelError, UnsupportedOpError
from tests.frontend.models import check, model, save

FOUR = "g (float[1,2,4,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,4,8] y)"
THREE = "g (float[1,4,16] q, float[1,5,8] k, float[1,5,8] v) => (float[1,4,16] y)"


def found(graph) -> list[str]:
    return [node.op_type for node in graph.nodes if node.op_type not in ("Reshape", "Transpose")]


def test_four_axes(tmp_path):
    graph = check(model(f"{FOUR} {{ y = Attention(q, k, v) }}", opset=23), tmp_path)
    assert found(graph) == ["MatMul", "Unary_0", "Softmax", "MatMul"]
    assert graph.graph.opset_imports[""] < 23


def test_three_axes_and_shared_keys(tmp_path):
    text = f"{THREE} {{ y = Attention<q_num_heads=4, kv_num_heads=2, scale=0.5>(q, k, v) }}"
    assert found(check(model(text, opset=23), tmp_path)) == [
        "Expand",
        "Expand",
        "MatMul",
        "Unary_0",
        "Softmax",
        "MatMul",
    ]


def test_causal(tmp_path):
    text = "g (float[1,2,5,8] q) => (float[1,2,5,8] y) { y = Attention<is_causal=1>(q, q, q) }"
    assert found(check(model(text, opset=23), tmp_path)) == ["MatMul", "Unary_0", "MaskedSoftmax", "MatMul"]


def test_position_bias_stays_a_sum(tmp_path):
    bias = np.random.default_rng(0).normal(0, 1, (1, 1, 4, 5)).astype(np.float32)
    graph = check(model(f"{FOUR} {{ y = Attention(q, k, v, bias) }}", opset=23, bias=bias), tmp_path)
    assert found(graph) == ["MatMul", "Unary_0", "Add", "Softmax", "MatMul"]


def test_boolean_mask(tmp_path):
    keep = np.array([[True, True, False, True, False]] * 4)
    graph = check(model(f"{FOUR} {{ y = Attention(q, k, v, keep) }}", opset=23, keep=keep), tmp_path)
    assert found(graph) == ["MatMul", "Unary_0", "MaskedSoftmax", "MatMul"]


VARIANTS = {
    "softcap": (f"{FOUR} {{ y = Attention<softcap=5.0>(q, k, v) }}", "softcap limits its logits"),
    "cache": (
        "g (float[1,2,4,8] q, float[1,2,5,8] k, float[1,2,5,8] v, float[1,2,3,8] pk, float[1,2,3,8] pv) => "
        "(float[1,2,4,8] y, float[1,2,8,8] nk, float[1,2,8,8] nv) { y, nk, nv = Attention(q, k, v, , pk, pv) }",
        "past_key",
    ),
    "logits": (
        "g (float[1,2,4,8] q, float[1,2,5,8] k, float[1,2,5,8] v) => (float[1,2,4,8] y, float[1,2,4,5] l) "
        "{ y, nk, nv, l = Attention(q, k, v) }",
        "cache or logits",
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_refused_by_name(variant, tmp_path):
    text, why = VARIANTS[variant]
    proto = model(text, opset=23)
    proto.graph.node[-1].name = "layer7"
    with pytest.raises(UnsupportedOpError, match="variant of attention that has no integer form") as caught:
        frontend.load(save(proto, tmp_path))
    assert "layer7" in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("heads", "message"), [((3, 2), "16 channels into 3 heads"), ((4, 3), "8 channels into 3 heads")]
)
def test_heads_that_do_not_divide(heads, message, tmp_path):
    text = f"{THREE} {{ y = Attention<q_num_heads={heads[0]}, kv_num_heads={heads[1]}>(q, k, v) }}"
    with pytest.raises(ModelError, match=message):
        frontend.load(save(model(text, opset=23), tmp_path))


def test_key_heads_that_do_not_divide(tmp_path):
    text = """g (float[1,4,16] q, float[1,5,9] k) => (float[1,4,12] y) {
        y = Attention<q_num_heads=4, kv_num_heads=3>(q, k, k) }"""
    with pytest.raises(ModelError, match="shares 3 key heads among 4 query heads"):
        frontend.load(save(model(text, opset=23), tmp_path))
