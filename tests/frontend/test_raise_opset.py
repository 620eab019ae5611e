"""Opsets 13 to the newest, in one spelling."""

from __future__ import annotations

import onnx.defs
import pytest

from edgeq import frontend
from edgeq.errors import UnsupportedOpError
from edgeq.frontend.passes import raise_opset
from tests.frontend.models import check, model, ops, random_feeds, save, weights

NEWEST = onnx.defs.onnx_opset_version()
RUNTIME = 26


@pytest.mark.parametrize("opset", range(13, RUNTIME + 1))
def test_every_opset(tmp_path, opset):
    text = """g (float[n,3,8,8] x) => (float[n,5] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
        g = GlobalAveragePool(p)  f = Flatten(g)  d = Gemm(f, v, b)  y = Softmax<axis=1>(d) }"""
    graph = check(model(text, opset=opset, w=weights(4, 3, 3, 3), v=weights(4, 5), b=weights(5)), tmp_path)
    assert 18 <= graph.graph.opset_imports[""] <= 21


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ReduceSumSquare"])
def test_axes_become_an_input(tmp_path, op):
    text = f"g (float[1,3,4,4] x) => (float[1,3,1,1] y) {{ y = {op}<axes=[2,3], keepdims=1>(x) }}"
    graph = check(model(text, opset=13), tmp_path)
    (node,) = graph.nodes
    assert "axes" not in node.attributes
    assert node.inputs[1].const_value.numpy().tolist() == [2, 3]


def test_reductions_over_everything(tmp_path):
    check(model("g (float[1,3,4] x) => (float[1,1,1] y) { y = ReduceMean(x) }", opset=13), tmp_path)


def test_split_names_its_outputs(tmp_path):
    text = "g (float[1,6,4] x) => (float[1,2,4] y) { a, b, c = Split<axis=1>(x)  d = Add(a, b)  y = Add(d, c) }"
    graph = check(model(text, opset=13), tmp_path)
    assert ops(graph) == {"Split": 1, "Add": 2}


def test_newer_than_the_runtime(tmp_path):
    """The file says an opset that ONNX Runtime doesn't know; its ops are older."""
    text = "g (float[1,8,4,4] x) => (float[1,2,8,8] y) { d = DepthToSpace<blocksize=2>(x)  y = Relu(d) }"
    graph = frontend.load(save(model(text, opset=NEWEST), tmp_path))
    assert graph.graph.opset_imports[""] <= RUNTIME
    assert graph.run(random_feeds(graph))["y"].shape == (1, 2, 8, 8)


def test_an_op_that_only_newer_opsets_have(tmp_path, monkeypatch):
    monkeypatch.setattr(raise_opset, "COMMON_OPSET", 18)
    monkeypatch.setattr(raise_opset, "HIGHEST_OPSET", 19)
    proto = model("g (float[1,8] x) => (float[1,8] y) { y = Gelu(x) }", opset=20)
    with pytest.raises(UnsupportedOpError, match=r"Gelu '.*' needs opset 20") as caught:
        frontend.load(save(proto, tmp_path))
    assert "opset 19" in (caught.value.hint or "")


def test_weights_that_are_also_inputs(tmp_path):
    proto = model("g (float[1,8] x, float[8,5] w) => (float[1,5] y) { y = MatMul(x, w) }", w=weights(8, 5))
    graph = check(proto, tmp_path)
    assert [value.name for value in graph.inputs] == ["x"]
