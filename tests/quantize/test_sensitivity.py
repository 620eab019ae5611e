"""Which layers suffer from fewer bits, judged by the final output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.frontend import FloatGraph
from edgeq.quantize import QuantizeOptions, prepare, sensitivity
from edgeq.quantize.error.divergence import class_outputs, divergence
from edgeq.quantize.pipeline import Prepared
from tests.quantize.models import ModelMaker, samples, small_classifier


def spiky(folder: Path) -> FloatGraph:
    """Three products; the second needs all its bits: it has one large weight beside the small ones that matter."""
    m = ModelMaker()
    x = m.input("x", 1, 12)
    weights = m.random.standard_normal((3, 12, 12)).astype(np.float32) / 4
    weights[1, 0] = 40.0
    weights[0, :, 0] = 0.0
    y = x
    for name, array in zip("abc", weights, strict=True):
        y = m.node("MatMul", [y, m.constant(array)], [name])
    y = m.node("Softmax", [y], ["prob"])
    return m.graph(folder, y)


def prepared(graph: FloatGraph) -> Prepared:
    return prepare(graph, samples(graph, 32), QuantizeOptions(promote=False))


def test_the_layer_that_needs_its_bits_is_found(tmp_path: Path) -> None:
    start = prepared(spiky(tmp_path))
    found = sensitivity(start.plan, start.data, (3, 8))
    assert found.samples == 32
    assert found.ranked(3)[0][0] == "node_b"
    assert found.ranked(3)[0][1] > 3 * found.ranked(3)[1][1]
    assert all(widths[8] == 0 for widths in found.layers.values())
    assert found.parameters == {"node_a": 144, "node_b": 144, "node_c": 144}


def test_fewer_bits_are_never_better(tmp_path: Path) -> None:
    start = prepared(small_classifier(tmp_path))
    steps: list[int] = []
    found = sensitivity(start.plan, start.data, (2, 4, 6), progress=lambda _, done, __: steps.append(done))
    assert steps == [1, 2, 3]
    for widths in found.layers.values():
        assert widths[2] > widths[4] > widths[6] >= 0


def test_only_the_layers_asked_for(tmp_path: Path) -> None:
    start = prepared(small_classifier(tmp_path))
    assert list(sensitivity(start.plan, start.data, layers=["node_dw"]).layers) == ["node_dw"]


def test_nonsense_is_refused(tmp_path: Path) -> None:
    start = prepared(small_classifier(tmp_path))
    with pytest.raises(UsageError, match="no such weight width"):
        sensitivity(start.plan, start.data, (1,))
    with pytest.raises(UsageError, match="no such weight width"):
        sensitivity(start.plan, start.data, ())
    with pytest.raises(UsageError, match="no layer with weights is called 'head'"):
        sensitivity(start.plan, start.data, layers=["head"])


def test_divergence_of_logits_is_kullback_leibler() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    expected = float(np.sum(p * np.log(p / q)))
    # Logits are known up to a constant.
    reference, values = [[np.log(p)[None]]], [[np.log(q)[None] + 3]]
    assert divergence(reference, values, [True]) == pytest.approx(expected)
    images = [[np.log(p).reshape(1, 3, 1, 1)]], [[np.log(q).reshape(1, 3, 1, 1)]]
    assert divergence(*images, [True]) == pytest.approx(expected)


def test_divergence_elsewhere_is_half_the_normalised_error() -> None:
    reference = [[np.array([[0.0, 2.0]])]]
    assert divergence(reference, [[np.array([[0.0, 1.0]])]], [False]) == pytest.approx(0.25)
    # The worst output counts.
    two = [[reference[0][0], reference[0][0]]]
    assert divergence(two, [[reference[0][0], reference[0][0] + 1]], [False, False]) == pytest.approx(0.5)


def test_what_counts_as_logits(tmp_path: Path) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 8)
    code = m.node("Relu", [m.node("Gemm", [x, m.weights(8, 4), m.weights(4)], ["code"])], ["relu"])
    back = m.node("Gemm", [code, m.weights(4, 8), m.weights(8)], ["back"])
    classes = m.node("Gemm", [code, m.weights(4, 3), m.weights(3)], ["classes"])
    topology = prepared(m.graph(tmp_path, back, classes)).plan.topology
    assert class_outputs(topology, ["back", "classes", "x"]) == [False, True, False]
