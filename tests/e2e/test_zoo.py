"""The zoo's CNNs: the same bits everywhere, accuracy within its bounds."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.integer import IntegerGraph, oracle, reference
from edgeq.integer.arithmetic import quantize
from tests.conftest import ZOO

pytestmark = pytest.mark.zoo

# Largest loss against fp32 on all evaluation samples, in units of the metric.
BOUNDS = {
    "mlperf_tiny_resnet8_cifar10": ("top1", 0.01),
    "mlperf_tiny_mobilenetv1_vww": ("top1", 0.01),
    "mlperf_tiny_dscnn_kws": ("top1", 0.01),
    "mlperf_tiny_autoencoder_toycar": ("auc", 0.01),
    "mobilenet_v2_100_imagenet_deq": ("top1", 0.01),
    "squeezenet1_1_imagenet": ("top1", 0.01),
    "yolox_nano_coco": ("person_ap50", 0.03),
}
SMALL = ("mlperf_tiny_resnet8_cifar10", "mlperf_tiny_dscnn_kws", "mlperf_tiny_mobilenetv1_vww")
CALIBRATION_SAMPLES = 128


@cache
def evaluator() -> ModuleType:
    """The zoo's evaluate.py."""
    spec = importlib.util.spec_from_file_location("zoo_evaluate", ZOO / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Case:
    """A quantized model of the zoo, its evaluation inputs as integers, and a folder for artifacts."""

    name: str
    graph: IntegerGraph
    folder: Path

    def inputs(self, count: int) -> np.ndarray[Any, Any]:
        """The first `count` evaluation samples as the graph's integers."""
        x = evaluator().inputs(self.name, "eval")[0]
        if self.name.startswith("mlperf_tiny_autoencoder"):
            x = evaluator().windows(x[:1]).reshape(-1, 640)
        quant = self.graph.quant(self.graph.inputs[0])
        return quantize(np.asarray(x[:count], np.float32), quant.scale, quant.zero_point, quant.dtype)

    def artifact(self, target: str) -> Any:
        """The model compiled for a target."""
        return edgeq.load(edgeq.compile(self.graph, target=target, output=self.folder / f"{target}.edgeq").path)


@pytest.fixture(scope="module", params=list(BOUNDS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name: str = request.param
    calib = evaluator().calibration(name, 16)
    result = edgeq.quantize(ZOO / "models" / name / "model.onnx", calib)
    return Case(name, result.graph, tmp_path_factory.mktemp(name))


def one_by_one(run: Any, name: str, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of something that takes one sample at a time."""
    parts = [run({name: x[i : i + 1]}) for i in range(len(x))]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def same_bits(found: dict[str, np.ndarray[Any, Any]], expected: dict[str, np.ndarray[Any, Any]]) -> None:
    assert set(found) == set(expected)
    for name, values in found.items():
        assert values.dtype == expected[name].dtype
        differing = np.count_nonzero(values != expected[name][: len(values)])
        assert differing == 0, f"{name}: {differing} of {values.size} values differ"


@pytest.mark.emulated
def test_the_same_bits_everywhere(case: Case) -> None:
    """Reference, ONNX Runtime, host with 1 to 4 threads, arm under QEMU; few samples (test-full runs more)."""
    x = case.inputs(4)
    name = case.graph.inputs[0].name
    assert name is not None
    host = case.artifact("host")
    base = host.run_batch(x, dequantize=False)
    same_bits(one_by_one(lambda feed: reference.run(case.graph, feed), name, x[:1]), base)
    same_bits(one_by_one(oracle.Session(case.graph, 1).run, name, x[:2]), base)
    for threads in (2, 3, 4):
        same_bits(host.run_batch(x, threads=threads, dequantize=False), base)
    same_bits(case.artifact("arm").run_batch(x[:2], dequantize=False), base)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", ["x86-avx2", "x86-vnni", "arm-neon", "arm-dotprod"])
def test_sixteen_samples_on_every_target(case: Case, target: str) -> None:
    x = case.inputs(16)
    model = case.artifact(target)
    expected = one_by_one(oracle.Session(case.graph, 2).run, model.inputs[0].name, x)
    for threads in range(1, 5):
        same_bits(model.run_batch(x, threads=threads, dequantize=False), expected)


@pytest.mark.full
def test_sixteen_samples_of_the_reference(case: Case) -> None:
    x = case.inputs(16)
    name = str(case.graph.inputs[0].name)
    same_bits(
        one_by_one(lambda feed: reference.run(case.graph, feed), name, x),
        one_by_one(oracle.Session(case.graph, 2).run, name, x),
    )


def check_accuracy(name: str, folder: Path) -> None:
    """Default options on all evaluation samples: the loss stays within the bound."""
    zoo = evaluator()
    path = ZOO / "models" / name / "model.onnx"
    calib = zoo.calibration(name, CALIBRATION_SAMPLES)
    model = edgeq.load(edgeq.compile(path, calib=calib, output=folder / f"{name}.edgeq").path)
    output = model.outputs[0].name
    run = lambda x: model.run_batch(np.asarray(x, np.float32), workers=2, dequantize=True)[output]  # noqa: E731
    metric, bound = BOUNDS[name]
    integer = zoo.evaluate(name, run, "eval")[metric]
    fp32 = zoo.evaluate(name, zoo.ort_runner(str(path)), "eval")[metric]
    assert fp32 - integer <= bound, f"{name}: {metric} {integer:.4f}, fp32 {fp32:.4f}"


@pytest.mark.parametrize("name", SMALL)
def test_accuracy_of_the_small_models(name: str, tmp_path: Path) -> None:
    check_accuracy(name, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in BOUNDS if n not in SMALL])
def test_accuracy_of_the_others(name: str, tmp_path: Path) -> None:
    check_accuracy(name, tmp_path)
