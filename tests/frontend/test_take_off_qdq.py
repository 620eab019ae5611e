"""Models that bring their own quantization."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import frontend
from tests.frontend.models import model, ops, original, random_feeds, save, weights

S, Z8, ZU = np.float32(0.05), np.int8(-3), np.uint8(128)


def load(proto, tmp_path) -> frontend.FloatGraph:
    return frontend.load(save(proto, tmp_path))


def said(graph: frontend.FloatGraph, name: str) -> tuple[str | None, ...]:
    metadata = graph.value(name).metadata_props
    return tuple(metadata.get(f"edgeq.{key}") for key in ("scale", "zero_point", "dtype"))


@pytest.mark.parametrize("zero", [Z8, ZU])
def test_activations(tmp_path, zero):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  r = Relu(d)
        q2 = QuantizeLinear(r, s, z)  y = DequantizeLinear(q2, s, z) }"""
    graph = load(model(text, s=S, z=zero), tmp_path)
    assert ops(graph) == {"Relu": 1}
    expected = (repr(float(S)), str(int(zero)), str(zero.dtype))
    assert said(graph, "x") == expected
    assert said(graph, "y") == expected


def test_a_clip_between_activations(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear(x, s, z)  c = Clip(q, lo, hi)  d = DequantizeLinear(c, s, z)  y = Tanh(d) }"""
    graph = load(model(text, s=S, z=np.int8(0), lo=np.int8(-127), hi=np.int8(127)), tmp_path)
    assert ops(graph) == {"Tanh": 1}
    assert said(graph, "x")[2] == "int8"


def test_quantized_ends(tmp_path):
    text = """g (uint8[1,4] x) => (int8[1,4] y) {
        d = DequantizeLinear(x, s, zu)  r = Tanh(d)  y = QuantizeLinear(r, s, z) }"""
    graph = load(model(text, s=S, zu=ZU, z=Z8), tmp_path)
    assert ops(graph) == {"Tanh": 1}
    assert said(graph, "x") == (repr(float(S)), "128", "uint8")
    assert said(graph, "y") == (repr(float(S)), "-3", "int8")
    assert [value.dtype.name for value in (*graph.inputs, *graph.outputs)] == ["FLOAT", "FLOAT"]
    assert len(graph.notes) == 2
    assert "Input 'x' is quantized" in graph.notes[0]
    assert "Output 'y' is quantized" in graph.notes[1]


def test_two_grids_for_one_value(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
        p = QuantizeLinear(x, t, z)  e = DequantizeLinear(p, t, z)  a = Tanh(d)  b = Exp(e)  y = Add(a, b) }"""
    graph = load(model(text, s=S, t=np.float32(0.1), z=Z8), tmp_path)
    assert said(graph, "x")[0] == repr(float(S))
    assert graph.notes == ["'x' is quantized in two ways in the file; the first one is kept."]


def test_a_scale_that_isnt_one_number(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear<axis=1>(x, s, z)  d = DequantizeLinear<axis=1>(q, s, z)  y = Tanh(d) }"""
    graph = load(model(text, s=np.full(4, S), z=np.zeros(4, np.int8)), tmp_path)
    assert said(graph, "x") == (None, None, None)
    assert graph.notes == ["The scale of 'x' is not one constant number; it is calibrated instead."]


def test_metadata_survives_fusion(tmp_path):
    text = """g (float[1,3,4,4] x) => (float[1,5,2,2] y) {
        c = Conv(x, w)  m = Mul(c, k)  q = QuantizeLinear(m, s, z)  d = DequantizeLinear(q, s, z)
        g = Sigmoid(d)  h = Mul(d, g)  p = QuantizeLinear(h, t, z)  y = DequantizeLinear(p, t, z) }"""
    proto = model(text, w=weights(5, 3, 3, 3), k=weights(5, 1, 1), s=S, t=np.float32(0.1), z=Z8)
    graph = load(proto, tmp_path)
    assert ops(graph) == {"Conv": 1, "Unary": 1}
    scales = [node.outputs[0].metadata_props["edgeq.scale"] for node in graph.nodes]
    assert scales == [repr(float(S)), repr(float(np.float32(0.1)))]


RELU = """g (float[1,3,4,4] x) => (float[1,5,2,2] y) {{
    c = Conv(x, w)  {relu} q = QuantizeLinear({name}, s, z)  d = DequantizeLinear(q, s, z)
    {then} }}"""


@pytest.mark.parametrize(
    ("zero", "low", "high"), [(np.uint8(0), 0.0, 12.75), (np.int8(-128), 0.0, 12.75), (np.int8(127), -12.75, 0.0)]
)
def test_a_grid_that_ends_at_zero_is_a_clamp(tmp_path, zero, low, high):
    """Quantizers drop the Relu in front of a grid without negative numbers."""
    text = RELU.format(relu="", name="c", then="y = Tanh(d)")
    proto = model(text, w=weights(5, 3, 3, 3), s=S, z=zero)
    graph = load(proto, tmp_path)
    assert [node.op_type for node in graph.nodes] == ["Conv", "Clip", "Tanh"]
    clip = graph.nodes[1]
    np.testing.assert_allclose([value.const_value.numpy() for value in clip.inputs[1:]], [low, high], rtol=1e-6)
    assert clip.outputs[0].metadata_props["edgeq.zero_point"] == str(zero)
    feeds = random_feeds(graph)
    np.testing.assert_allclose(graph.run(feeds)["y"], original(proto.SerializeToString(), feeds)["y"], atol=0.03)


@pytest.mark.parametrize("relu", ["r = Relu(c)", "r = Sigmoid(c)", "a = Relu(c)  r = MaxPool<kernel_shape=[1,1]>(a)"])
def test_no_clamp_where_nothing_is_negative(tmp_path, relu):
    text = RELU.format(relu=relu, name="r", then="y = Tanh(d)")
    graph = load(model(text, w=weights(5, 3, 3, 3), s=S, z=np.uint8(0)), tmp_path)
    assert "Clip" not in ops(graph)


def test_clamps_are_not_repeated_behind_data_movement(tmp_path):
    text = RELU.format(
        relu="", name="c",
        then="""p = Transpose<perm=[0,1,3,2]>(d)  e = QuantizeLinear(p, s, z)  f = DequantizeLinear(e, s, z)
                t = Concat<axis=1>(f, d)  h = QuantizeLinear(t, s, z)  k = DequantizeLinear(h, s, z)
                y = Slice(k, from, to, axis)""",
    )  # fmt: skip
    proto = model(text, w=weights(5, 3, 3, 3), s=S, z=np.uint8(0), **{"from": np.array([5]), "to": np.array([10]),
                  "axis": np.array([1])})  # fmt: skip
    assert ops(load(proto, tmp_path))["Clip"] == 1


def test_a_quantized_input_needs_no_clamp(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear(x, s)  d = DequantizeLinear(q, s)  y = Tanh(d) }"""
    graph = load(model(text, s=S), tmp_path)
    assert ops(graph) == {"Tanh": 1}
    assert said(graph, "x") == (repr(float(S)), "0", "uint8")


def test_slices_of_a_quantized_input_need_no_clamp(tmp_path):
    text = """g (float[1,4] x) => (float[1,2] y) {
        q = QuantizeLinear(x, s)  d = DequantizeLinear(q, s)  l = Slice(d, from, to, axis)
        p = QuantizeLinear(l, s)  e = DequantizeLinear(p, s)  y = Tanh(e) }"""
    ends = {"from": np.array([1]), "to": np.array([3]), "axis": np.array([1])}
    assert ops(load(model(text, s=S, **ends), tmp_path)) == {"Slice": 1, "Tanh": 1}


def test_metadata_of_values_that_folding_changed_is_dropped(tmp_path):
    """The product in front of a bias is scaled by what is folded into it: its old grid says nothing about it."""
    text = """g (float[1,8] x) => (float[1,5] y) {
        m = MatMul(x, w)  q = QuantizeLinear(m, s, z)  d = DequantizeLinear(q, s, z)
        a = Add(d, b)  p = QuantizeLinear(a, s, z)  e = DequantizeLinear(p, s, z)
        y = Mul(e, k) }"""
    graph = load(model(text, w=weights(8, 5), b=weights(5), k=weights(5), s=S, z=Z8), tmp_path)
    assert ops(graph) == {"MatMul": 1, "Add": 1}
    assert [dict(node.outputs[0].metadata_props) for node in graph.nodes] == [{}, {}]
