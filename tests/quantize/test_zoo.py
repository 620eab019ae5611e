"""Real networks: what the default recipe keeps of them. Judged by agreement with the float model on evaluation data,
which is far less noisy than accuracy on a few samples."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeq.frontend import FloatGraph, load
from edgeq.integer import oracle
from edgeq.quantize import QuantizeOptions, QuantizeResult, quantize
from edgeq.quantize.report import quantize_inputs

pytestmark = pytest.mark.zoo


def helpers(zoo: Path) -> Any:
    spec = importlib.util.spec_from_file_location("zoo_evaluate", zoo / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quantized(zoo: Path, name: str, samples: int = 32) -> tuple[FloatGraph, QuantizeResult, Any]:
    graph = load(zoo / "models" / name / "model.onnx")
    tools = helpers(zoo)
    result = quantize(graph, tools.calibration(name, samples), QuantizeOptions(compare_samples=0))
    return graph, result, tools


@pytest.mark.parametrize(
    ("name", "least"),
    [("mlperf_tiny_resnet8_cifar10", 0.97), ("mlperf_tiny_dscnn_kws", 0.97), ("mlperf_tiny_mobilenetv1_vww", 0.96)],
)
def test_classifiers_agree_with_float(name: str, least: float, zoo: Path) -> None:
    graph, result, tools = quantized(zoo, name)
    session = oracle.Session(result.graph, threads=1)
    x = tools.inputs(name, "eval")[0][:200]
    same = []
    for row in x:
        feed = {str(graph.inputs[0].name): row.reshape([int(d) for d in graph.inputs[0].shape])}
        (expected,) = graph.run(feed).values()
        (found,) = session.run(quantize_inputs(result.graph, feed)).values()
        same.append(expected.argmax() == found.argmax())
    # Its spectra lose more in int8 than everything behind them.
    assert list(result.report.promoted) == (["input"] if "kws" in name else [])
    assert np.mean(same) >= least


def test_autoencoder_scores_the_same(zoo: Path) -> None:
    """Its score is the reconstruction error: the order of windows by it must stay."""
    graph, result, tools = quantized(zoo, "mlperf_tiny_autoencoder_toycar")
    windows = tools.calibration("mlperf_tiny_autoencoder_toycar")["input"][-200:]
    session = oracle.Session(result.graph, threads=1)
    quant = result.graph.quant("output")
    scores = []
    for row in windows:
        (expected,) = graph.run({"input": row[None]}).values()
        (found,) = session.run(quantize_inputs(result.graph, {"input": row[None]})).values()
        real = (found.astype(np.float64) - quant.zero_point) * quant.scale
        scores.append((((expected - row) ** 2).mean(), ((real - row) ** 2).mean()))
    ranks = np.argsort(np.argsort(np.array(scores), axis=0), axis=0)
    assert np.corrcoef(ranks.T)[0, 1] > 0.97


def test_the_detectors_stem_is_promoted(zoo: Path) -> None:
    """Nodes 1177, 687 and 1180 make most of YOLOX-nano's error; a dozen or two tensors bring it into the budget."""
    _, result, _ = quantized(zoo, "yolox_nano_coco", 8)
    report = result.report
    assert list(report.promoted)[:3] == ["1177", "687", "1180"]
    assert len(report.promoted) <= 30
    before, after, budget = report.promotion_error
    assert after <= budget == 0.03 < before
