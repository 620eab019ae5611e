"""Root-mean-square and L2 normalization in every spelling."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.models import check, model, weights

X = "g (float[1,4,6] x) => (float[1,4,6] y)"
EPS, TINY, TWO = np.array(1e-5, np.float32), np.array(1e-12, np.float32), np.array(2, np.float32)


def norms(graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


FORMS = {
    "rsqrt": "q = Pow(x, two)  v = ReduceMean<axes=[-1]>(q)  s = Add(v, eps)  r = Sqrt(s)  i = Reciprocal(r)"
    "  n = Mul(x, i)  y = Mul(w, n)",
    "division": "q = Mul(x, x)  v = ReduceMean<axes=[-1]>(q)  s = Add(v, eps)  r = Sqrt(s)  n = Div(x, r)"
    "  y = Mul(n, w)",
    "unit length": "n = ReduceL2<axes=[-1]>(x)  c = Clip(n, tiny)  e = Expand(c, shape)  y = Div(x, e)",
    "unit length by root": "q = Mul(x, x)  t = ReduceSum(q, last)  r = Sqrt(t)  y = Div(x, r)",
    "unit length by squares": "t = ReduceSumSquare<axes=[-1]>(x)  s = Add(t, eps)  r = Sqrt(s)  y = Div(x, r)",
    "unit length guarded": "q = Mul(x, x)  t = ReduceSum(q, last)  r = Sqrt(t)  c = Max(r, tiny)  y = Div(x, c)",
    "LpNormalization": "y = LpNormalization<axis=-1, p=2>(x)",
}
CONSTANTS = {
    "two": TWO,
    "eps": EPS,
    "tiny": TINY,
    "w": weights(6),
    "shape": np.array([1, 4, 6]),
    "last": np.array([-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    text = FORMS[form]
    constants = {name: array for name, array in CONSTANTS.items() if f"{name})" in text or f"({name}," in text}
    graph = check(model(f"{X} {{ {text} }}", **constants), tmp_path)
    assert norms(graph) == ["RmsNormalization"]
    assert graph.nodes[0].domain == "edgeq.float"
    assert not graph.is_unary(graph.nodes[0])


def test_op_of_opset_23_runs_at_a_lower_one(tmp_path):
    text = f"{X} {{ y = RMSNormalization<axis=-1, epsilon=0.001>(x, w) }}"
    graph = check(model(text, opset=23, w=weights(6)), tmp_path)
    assert norms(graph) == ["RmsNormalization"]
    assert graph.graph.opset_imports[""] == 18


def test_rows_of_zeros_stay_zero(tmp_path):
    graph = check(model(f"{X} {{ y = LpNormalization<axis=-1, p=2>(x) }}"), tmp_path)
    assert not graph.run({"x": np.zeros((1, 4, 6), np.float32)})["y"].any()


@pytest.mark.parametrize(
    "text",
    ["y = LpNormalization<axis=1, p=2>(x)", "q = Mul(x, x)  v = ReduceMean<axes=[1]>(q)  r = Sqrt(v)  y = Div(x, r)"],
)
def test_other_axes_are_none(text, tmp_path):
    assert "RmsNormalization" not in norms(check(model(f"{X} {{ {text} }}"), tmp_path))
