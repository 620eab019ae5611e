"""Scales and shifts per channel that nothing takes in."""

from __future__ import annotations

from tests.frontend.models import batchnorm, check, model, weights

X = "g (float[1,4,6,6] x)"


def test_shift_in_front_of_a_padded_conv_is_a_depthwise_conv(tmp_path):
    text = f"{X} => (float[1,6,6,6] y) {{ d = Mul(x, k)  e = Add(d, c)  y = Conv<pads=[1,1,1,1]>(e, w) }}"
    graph = check(model(text, w=weights(6, 4, 3, 3), k=weights(4, 1, 1), c=weights(4, 1, 1)), tmp_path)
    assert [node.attributes["group"].as_int() for node in graph.nodes] == [4, 1]


def test_a_value_with_other_readers_is_left_alone(tmp_path):
    text = f"{X} => (float[1,4,6,6] y, float[1,4,6,6] c) {{ c = Conv<pads=[1,1,1,1]>(x, w)  y = Mul(c, k) }}"
    graph = check(model(text, w=weights(4, 4, 3, 3), k=weights(4, 1, 1)), tmp_path)
    assert [node.attributes["group"].as_int() for node in graph.nodes] == [1, 4]


def test_batchnorm_alone_is_a_depthwise_conv(tmp_path):
    graph = check(
        model(f"{X} => (float[1,4,6,6] y) {{ y = BatchNormalization(x, ga, be, mu, va) }}", **batchnorm(4)), tmp_path
    )
    (node,) = graph.nodes
    assert node.op_type == "Conv"
    assert node.attributes["group"].as_int() == 4
