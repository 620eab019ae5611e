"""LayerNormalization in every spelling."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.models import check, model, ops, weights

X = "g (float[1,4,6] x) => (float[1,4,6] y)"
MEAN = "m = ReduceMean<axes=[-1]>(x)  d = Sub(x, m)"
SQUARES = {"pow": "q = Pow(d, two)", "mul": "q = Mul(d, d)"}
ENDS = {
    "div": "r = Sqrt(s)  n = Div(d, r)",
    "reciprocal": "r = Sqrt(s)  i = Reciprocal(r)  n = Mul(i, d)",
    "one over": "r = Sqrt(s)  i = Div(one, r)  n = Mul(d, i)",
    "power": "i = Pow(s, minus_half)  n = Mul(d, i)",
    "half power": "r = Pow(s, half)  n = Div(d, r)",
}
NUMBERS = {
    "two": np.array(2, np.float32),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "minus_half": np.array(-0.5, np.float32),
    "eps": np.array(1e-5, np.float32),
}


def numbers(text: str) -> dict[str, np.ndarray]:
    """The constants a text uses."""
    return {name: array for name, array in NUMBERS.items() if f"{name})" in text or f"({name}," in text}


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("end", ENDS)
def test_parts(square, end, tmp_path):
    text = f"""{X} {{ {MEAN}  {SQUARES[square]}  v = ReduceMean<axes=[-1]>(q)  s = Add(v, eps)  {ENDS[end]}
        g = Mul(n, w)  y = Add(g, b) }}"""
    graph = check(model(text, opset=17, w=weights(6), b=weights(6, seed=1), **numbers(text)), tmp_path)
    assert ops(graph) == {"LayerNormalization": 1}
    (node,) = graph.nodes
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-5)


def test_difference_computed_twice_without_parameters(tmp_path):
    text = f"""{X} {{ {MEAN}  m2 = ReduceMean<axes=[2]>(x)  d2 = Sub(x, m2)  q = Pow(d2, two)
        v = ReduceMean<axes=[2]>(q)  s = Add(eps, v)  r = Sqrt(s)  y = Div(d, r) }}"""
    assert ops(check(model(text, **numbers(text)), tmp_path)) == {"LayerNormalization": 1}


def test_variance_as_difference_of_squares(tmp_path):
    text = f"""{X} {{ {MEAN}  x2 = Mul(x, x)  e = ReduceMean<axes=[-1]>(x2)  m2 = Mul(m, m)  v = Sub(e, m2)
        s = Add(v, eps)  r = Sqrt(s)  y = Div(d, r) }}"""
    assert ops(check(model(text, **numbers(text)), tmp_path)) == {"LayerNormalization": 1}


def test_scale_and_shift_behind_the_op(tmp_path):
    text = f"{X} {{ n = LayerNormalization<axis=-1>(x, one_each)  g = Mul(w, n)  y = Add(g, b) }}"
    proto = model(text, w=weights(6), b=weights(1, 1, 6), one_each=np.ones(6, np.float32))
    assert ops(check(proto, tmp_path)) == {"LayerNormalization": 1}


@pytest.mark.parametrize(
    "text",
    [
        # over the tokens; of another tensor; a scale per token; a scale somebody else reads
        "m = ReduceMean<axes=[1]>(x)  d = Sub(x, m)  q = Mul(d, d)  v = ReduceMean<axes=[1]>(q)  r = Sqrt(v)"
        "  y = Div(d, r)",
        "z = Relu(x)  m = ReduceMean<axes=[-1]>(x)  d = Sub(z, m)  q = Mul(d, d)  v = ReduceMean<axes=[-1]>(q)"
        "  s = Add(v, eps)  r = Sqrt(s)  y = Div(d, r)",
    ],
)
def test_what_is_none(text, tmp_path):
    graph = check(model(f"{X} {{ {text} }}", **numbers(text)), tmp_path, tolerance=1e-3)
    assert "LayerNormalization" not in ops(graph)


def test_scale_per_token_stays_outside(tmp_path):
    text = f"{X} {{ n = LayerNormalization<axis=-1>(x, w)  y = Mul(n, t) }}"
    assert ops(check(model(text, w=weights(6), t=weights(4, 1)), tmp_path))["LayerNormalization"] == 1
