"""The cache of quantizations: same question, same answer; anything else, or damage, is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.cache import cache_dir
from edgeq.frontend.graph import FloatGraph
from edgeq.quantize import QuantizeOptions, quantize
from edgeq.quantize.cache import FOLDER, cached
from edgeq.quantize.pipeline import QuantizeResult
from edgeq.quantize.samples.data import CalibrationData, from_arrays
from edgeq.quantize.session import input_specs
from tests.quantize.models import samples, small_classifier


class Counting:
    """The quantizer, counting its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: FloatGraph, data: CalibrationData, options: QuantizeOptions) -> QuantizeResult:
        self.runs += 1
        return quantize(graph, data, options)


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FloatGraph, CalibrationData]:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "cache"))
    graph = small_classifier(tmp_path)
    return graph, from_arrays(input_specs(graph.model.graph), samples(graph))


def saved(result: QuantizeResult, path: Path) -> bytes:
    result.graph.save(path)
    return path.read_bytes()


def test_the_same_question_is_answered_from_the_cache(question, tmp_path):
    compute = Counting()
    first = cached(*question, QuantizeOptions(), compute)
    second = cached(*question, QuantizeOptions(threads=1, progress=lambda *_: None), compute)
    assert compute.runs == 1
    assert saved(first, tmp_path / "a.onnx") == saved(second, tmp_path / "b.onnx")
    assert first.report == second.report


def test_other_options_or_data_are_computed(question):
    graph, data = question
    compute = Counting()
    cached(graph, data, QuantizeOptions(), compute)
    cached(graph, data, QuantizeOptions(observer="minmax"), compute)
    moved = {name: array * 1.5 for name, array in data.arrays.items()}
    cached(graph, replace(data, arrays=moved), QuantizeOptions(), compute)
    assert compute.runs == 3


@pytest.mark.parametrize("name", ["graph.onnx", "report.json"])
def test_a_damaged_entry_is_computed_again(question, name):
    compute = Counting()
    cached(*question, QuantizeOptions(), compute)
    (entry,) = cache_dir(FOLDER).iterdir()
    content = (entry / name).read_bytes()
    (entry / name).write_bytes(content[: len(content) // 2])
    cached(*question, QuantizeOptions(), compute)
    cached(*question, QuantizeOptions(), compute)
    assert compute.runs == 2
