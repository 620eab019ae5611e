"""Data sets and scores of float models (artifacts: tests/e2e)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeq.errors import DataError, ModelError, UsageError
from edgeq.evaluate.compare import compare
from edgeq.evaluate.models import kind_of, open_model
from edgeq.evaluate.score import evaluate


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Takes x [N, 3], gives y = 2·x and z = relu(y)."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N,3] z) '
        "{ two = Constant <value_float = 2.0> () double = Mul (x, two) z = Relu (double) }"
    )
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    return path


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_score_of_a_float_model(model: Path, tmp_path: Path) -> None:
    data = save(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32), y=np.array([0, 1, 1]))
    result = evaluate(model, data, metric="top1", reference=model)
    assert result.score.values == {"top1": pytest.approx(2 / 3)}
    assert result.reference is not None
    assert result.reference.values == result.score.values
    assert result.agreement == 1.0
    assert result.sqnr == float("inf")
    assert result.samples == 3
    assert evaluate(model, data, samples=2).score.values == {"top1": 1.0}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.eye(3)}, "no labels"),
        ({"x": np.eye(3), "y": np.zeros(2)}, "differ in number"),
        ({"x": np.eye(3), "y": np.array(1)}, "sample axis"),
        ({"x": np.eye(4), "y": np.zeros(4)}, "wrong shape"),
        ({"x": np.full((2, 3), np.nan), "y": np.zeros(2)}, "NaN"),
        ({"q": np.eye(3), "y": np.zeros(3)}, "no input 'q'"),
    ],
)
def test_bad_data(model: Path, tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(model, save(tmp_path / "d.npz", **arrays))


def test_unknown_output(model: Path, tmp_path: Path) -> None:
    data = save(tmp_path / "d.npz", x=np.eye(3), y=np.zeros(3))
    with pytest.raises(DataError, match="no output 'nope'"):
        evaluate(model, data, output="nope")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    text = tmp_path / "readme.onnx"
    text.write_text("not a model " * 50)
    with pytest.raises(ModelError, match="not a model"):
        kind_of(text)
    with pytest.raises(UsageError, match="no such model file"):
        open_model(tmp_path / "nope.onnx")


def test_compare_finds_the_first_layer_that_differs(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].attribute[0].f = 2.5
    other = tmp_path / "other.onnx"
    onnx.save(proto, other)
    data = save(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32))
    same = compare(model, model, data)
    assert same.equal
    assert [layer.tensor for layer in same.layers] == ["double", "z"]
    found = compare(model, other, data)
    assert found.first is not None
    assert found.first.tensor == "double"
    assert found.first.differing == 3
    assert found.first.largest == 0.5
    assert found.agreement == 1.0
    assert [d.tensor for d in found.outputs] == ["z"]


def test_compare_needs_something_in_common(model: Path, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N] s) '
        "{ s = ReduceSum <keepdims = 0> (x, a) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "a"))
    other = tmp_path / "other.onnx"
    onnx.save(proto, other)
    data = save(tmp_path / "d.npz", x=np.eye(3, dtype=np.float32))
    with pytest.raises(UsageError, match="no tensor in common"):
        compare(model, other, data)
