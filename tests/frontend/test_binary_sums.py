"""Variadic ops become chains of two."""

from __future__ import annotations

from tests.frontend.models import check, model, ops


def test_variadic_ops_become_binary(tmp_path):
    text = """g (float[1,4] x, float[1,4] z, float[4] v) => (float[1,4] y) {
        a = Sum(x, z, v)  b = Mean(x, z, v)  c = Max(a, b, x)  d = Min(c, z, a, b)  e = Max(d)  y = Sum(e, x) }"""
    graph = check(model(text), tmp_path)
    assert all(len(node.inputs) == 2 for node in graph.nodes if node.op_type in ("Add", "Max", "Min"))
    assert not {"Sum", "Mean"} & set(ops(graph))
