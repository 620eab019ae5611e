"""Metrics against definitions written another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from edgeq.errors import DataError, UsageError
from edgeq.evaluate.metrics import apply_metric, auc, load_metric, mse, top1, top5


def test_top1_counts_the_first_of_equal_outputs() -> None:
    outputs = np.array([[1, 1, 0], [0, 2, 2], [5, 0, 0]])
    assert top1(outputs, np.array([0, 1, 0])) == 1.0
    assert top1(outputs, np.array([1, 2, 0])) == pytest.approx(1 / 3)


def test_top5_of_few_classes() -> None:
    assert top5(np.eye(3), np.array([0, 2, 1])) == 1.0


@given(hnp.arrays(np.float64, (7, 9), elements=st.floats(-5, 5)), st.lists(st.integers(0, 8), min_size=7, max_size=7))
def test_top5_is_the_five_best(outputs: np.ndarray, labels: list[int]) -> None:
    found = top5(outputs, np.array(labels))
    better = [sum((o > o[y]) | ((o == o[y]) & (np.arange(9) < y))) for o, y in zip(outputs, labels, strict=True)]
    assert found == pytest.approx(np.mean([b < 5 for b in better]))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=4, max_size=40))
def test_auc_against_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    if len(set(labels)) == 2:
        assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
        assert auc(np.stack([-scores, scores], 1), labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auc_needs_both_classes() -> None:
    with pytest.raises(DataError, match="both classes"):
        auc(np.array([0.1, 0.2]), np.array([1, 1]))


def test_auc_needs_one_score() -> None:
    with pytest.raises(DataError, match="one score a sample") as caught:
        auc(np.zeros((4, 10)), np.array([0, 1, 0, 1]))
    assert "path.py:function" in (caught.value.hint or "")


def test_mse() -> None:
    assert mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])) == 2.5
    with pytest.raises(DataError, match="one expected value"):
        mse(np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1]), "differ in number"),
        (np.array([0, 1, 3]), "outside the model's classes"),
        (np.array([0, 1, -1]), "outside the model's classes"),
        (np.array([0.0, 1.0, 0.5]), "must be class indices"),
    ],
)
def test_bad_labels(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        top1(np.eye(3), labels)


def test_function_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def two(outputs, y): return float(outputs.sum() + y.sum())\n"
        "def three(outputs, y, x): return {'a': x.sum(), 'b': 1}\n"
        "def broken(outputs, y): return outputs['no']\n"
    )
    ones = np.ones((2, 2))
    assert apply_metric(load_metric(f"{file}:two"), ones, np.ones(2), ones) == 6.0
    assert apply_metric(load_metric(f"{file}:three"), ones, np.ones(2), ones) == {"a": 4.0, "b": 1.0}
    with pytest.raises(DataError, match="the metric failed") as caught:
        apply_metric(load_metric(f"{file}:broken"), ones, np.ones(2), ones)
    assert caught.value.where == "broken"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("accuracy", "unknown metric 'accuracy'"),
        ("nope.py:f", "no such metric file"),
        ("{file}:nope", "no function 'nope'"),
        ("{broken}:f", "can't load the metric file"),
    ],
)
def test_bad_metric_names(tmp_path: Path, name: str, message: str) -> None:
    file, broken = tmp_path / "mine.py", tmp_path / "broken.py"
    file.write_text("def f(outputs, y): return 0\n")
    broken.write_text("raise RuntimeError('oh no')\n")
    with pytest.raises(UsageError, match=message):
        load_metric(name.format(file=file, broken=broken))
