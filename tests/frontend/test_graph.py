"""Running and asking the float graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeq.errors import DataError, ModelError
from tests.frontend.models import check, model, random_feeds, weights


@pytest.fixture
def graph(tmp_path):
    text = "g (float[1,8] x) => (float[1,5] y) { m = MatMul(x, w)  s = Sigmoid(m)  h = Mul(m, s)  y = Softmax(h) }"
    return check(model(text, w=weights(8, 5)), tmp_path)


def test_keep(graph):
    feeds = random_feeds(graph)
    kept = graph.run(feeds, keep=["x", "m", "h", "y"], threads=1)
    assert list(kept) == ["y", "h", "m", "x"]
    np.testing.assert_allclose(kept["m"], feeds["x"] @ weights(8, 5), rtol=1e-5)
    np.testing.assert_array_equal(kept["x"], feeds["x"])


def test_sessions_are_remembered(graph):
    assert graph.session() is graph.session(())
    assert graph.session(["m", "h"]) is graph.session(["h", "m"])
    assert graph.session(["m"]) is not graph.session()


def test_unknown_value(graph):
    with pytest.raises(ModelError, match="no value 'nobody' to keep"):
        graph.run(random_feeds(graph), keep=["nobody"])
    with pytest.raises(ModelError, match="no value 'nobody'"):
        graph.value("nobody")


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ({}, "The model's inputs are x(.|\n)*missing: x"),
        ({"x": np.zeros((1, 8), np.float32), "z": np.zeros(1)}, "unknown: z"),
        ({"x": np.zeros((2, 8), np.float32)}, r"Input 'x' must be float32 \[1, 8\](.|\n)*it is float32 \[2, 8\]"),
        ({"x": np.zeros((1, 8), np.float64)}, "it is float64"),
    ],
)
def test_wrong_inputs(graph, feeds, match):
    with pytest.raises(DataError, match=match):
        graph.run(feeds)


def test_a_graph_that_the_runtime_rejects(graph):
    graph.nodes[0].op_type = "Unheard"
    with pytest.raises(ModelError, match="ONNX Runtime can't load the float graph"):
        graph.session(["m"])


def test_a_graph_that_fails_while_running(tmp_path):
    text = "g (float[4,2] x, int64[1,2] i) => (float[1,2,2] y) { y = Gather(x, i) }"
    graph = check(model(text), tmp_path)
    with pytest.raises(ModelError, match="ONNX Runtime failed to run the float graph"):
        graph.run({"x": np.zeros((4, 2), np.float32), "i": np.full((1, 2), 99, np.int64)})


def test_saved_graphs_run_anywhere(graph, tmp_path):
    graph.save(tmp_path / "float.onnx")
    onnx.checker.check_model(str(tmp_path / "float.onnx"), full_check=True)
    feeds = random_feeds(graph)
    session = onnxruntime.InferenceSession(str(tmp_path / "float.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, feeds)[0], graph.run(feeds)["y"])


def test_values_have_types_and_shapes(graph):
    assert [(value.name, tuple(value.shape)) for value in graph.values()] == [
        ("x", (1, 8)), ("m", (1, 5)), ("h", (1, 5)), ("y", (1, 5)),
    ]  # fmt: skip
    assert [value.name for value in graph.inputs] == ["x"]
    assert [value.name for value in graph.outputs] == ["y"]
