"""Stock rules, with names and metadata kept."""

from __future__ import annotations

import numpy as np

from tests.frontend.models import check, model, ops, weights

X = "g (float[1,3,4,4] x)"
Y = "(float[1,3,4,4] y)"
I64 = np.int64


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
