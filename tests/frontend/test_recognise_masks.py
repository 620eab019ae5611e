"""Masked softmax in every spelling: the same outputs for masks of zeros and ones, and no mask in the logits."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from tests.frontend.models import model, original, save

LOGITS = np.random.default_rng(0).normal(0, 2, (1, 2, 4, 4)).astype(np.float32)
INPUTS = "float[1,2,4,4] x, int64[1,4] m"
WIDE = "u = Unsqueeze(m, axes)  c = Cast<to=1>(u)"
CAUSAL = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
CONSTANTS = {
    "axes": np.array([1, 2]),
    "one": np.array(1, np.float32),
    "low": np.array(-10000, np.float32),
    "least": np.array(np.finfo(np.float32).min, np.float32),
    "minf": np.array(-np.inf, np.float32),
    "zero": np.array(0, np.float32),
    "izero": np.array(0),
    "ione": np.array(1),
    "causal": CAUSAL,
    "ahead": CAUSAL == 0,
    "full": np.array([1, 1, 4, 4]),
}
FORMS = {
    "bert": f"{WIDE}  i = Sub(one, c)  a = Mul(i, low)  z = Add(x, a)",
    "least float": f"{WIDE}  i = Sub(one, c)  a = Mul(i, least)  z = Add(a, x)",
    "zeros replaced": f"{WIDE}  i = Sub(one, c)  b = Cast<to=9>(i)  a = Where(b, least, i)  z = Add(x, a)",
    "boolean": "u = Unsqueeze(m, axes)  b = Cast<to=9>(u)  z = Where(b, x, minf)",
    "boolean addend": "u = Unsqueeze(m, axes)  b = Cast<to=9>(u)  a = Where(b, zero, minf)  z = Add(x, a)",
    "equal zero": "u = Unsqueeze(m, axes)  e = Equal(u, izero)  z = Where(e, minf, x)",
    "not": "u = Unsqueeze(m, axes)  b = Cast<to=9>(u)  n = Not(b)  z = Where(n, low, x)",
    "moved later": "e = Equal(m, ione)  u = Unsqueeze(e, axes)  w = Expand(u, full)  z = Where(w, x, minf)",
    "greater": "u = Unsqueeze(m, axes)  g = Greater(u, izero)  z = Where(g, x, low)",
    "two addends": f"{WIDE}  i = Sub(one, c)  a = Mul(i, low)  s = Add(x, a)  z = Add(s, causal)",
    "summed first": f"{WIDE}  i = Sub(one, c)  a = Mul(i, low)  s = Add(causal, a)  z = Add(x, s)",
    "and": "u = Unsqueeze(m, axes)  b = Cast<to=9>(u)  k = And(b, ahead)  z = Where(k, x, minf)",
}


def load(text, tmp_path, **more):
    used = {name: array for name, array in CONSTANTS.items() if f"{name})" in text or f" {name}," in text or
            f"({name}," in text}  # fmt: skip
    proto = model(f"g ({INPUTS}) => (float[1,2,4,4] y) {{ {text} }}", **used, **more)
    return proto, frontend.load(save(proto, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    proto, graph = load(f"{FORMS[form]}  y = Softmax<axis=-1>(z)", tmp_path)
    for mask in ([1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]):
        feeds = {"x": LOGITS, "m": np.array([mask])}
        expected = original(proto.SerializeToString(), feeds)["y"]
        np.testing.assert_allclose(graph.run(feeds)["y"], expected, atol=1e-6)
    found = [node.op_type for node in graph.nodes]
    assert found.count("MaskedSoftmax") == 1
    assert not {"Where", "Equal", "Not", "And", "Softmax", "Greater"} & set(found)
    (softmax,) = (node for node in graph.nodes if node.op_type == "MaskedSoftmax")
    assert softmax.inputs[0] is graph.inputs[0]


def test_or_of_two_masks(tmp_path):
    text = "u = Unsqueeze(m, axes)  b = Cast<to=9>(u)  k = Or(b, ahead)  z = Where(k, x, minf)  y = Softmax<axis=-1>(z)"
    proto, graph = load(text, tmp_path)
    feeds = {"x": LOGITS, "m": np.array([[0, 0, 1, 0]])}
    np.testing.assert_allclose(graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], atol=1e-6)
    assert "MaskedSoftmax" in [node.op_type for node in graph.nodes]


def test_guard_against_rows_without_keys_goes(tmp_path):
    text = f"{FORMS['boolean']}  p = Softmax<axis=-1>(z)  n = IsNaN(p)  y = Where(n, zero, p)"
    _, graph = load(text, tmp_path)
    assert "IsNaN" not in [node.op_type for node in graph.nodes]
    assert not graph.run({"x": LOGITS, "m": np.zeros((1, 4), np.int64)})["y"].any()


NO_MASKS = {
    "bias": "z = Add(x, small)",
    "scaled bias": f"{WIDE}  a = Mul(c, small1)  z = Add(x, a)",
    "clipped": f"{WIDE}  i = Sub(one, c)  a = Mul(i, low)  s = Add(x, a)  z = Relu(s)",
}


@pytest.mark.parametrize("form", NO_MASKS)
def test_what_is_no_mask_stays(form, tmp_path):
    small = {"small": LOGITS[:, :1] / 3, "small1": np.array(0.5, np.float32)}
    used = {name: array for name, array in small.items() if f"{name})" in NO_MASKS[form]}
    _, graph = load(f"{NO_MASKS[form]}  y = Softmax<axis=-1>(z)", tmp_path, **used)
    found = [node.op_type for node in graph.nodes]
    assert "Softmax" in found
    assert "MaskedSoftmax" not in found


def test_masks_of_several_layers_are_computed_once(tmp_path):
    text = f"{FORMS['bert']}  p = Softmax<axis=-1>(z)  z2 = Add(p, a)  y = Softmax<axis=-1>(z2)"
    _, graph = load(text, tmp_path)
    found = [node.op_type for node in graph.nodes]
    assert found.count("MaskedSoftmax") == 2
    assert found.count("Cast") == found.count("Reshape") == 1
