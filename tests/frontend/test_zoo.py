"""Real models: same results as the file in ONNX Runtime, and the form that the quantizer relies on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq import frontend
from tests.frontend.models import ops, original

pytestmark = pytest.mark.zoo

# Ops left after simplification; a change here is a change of what the quantizer sees.
EXPECTED = {
    "mlperf_tiny_resnet8_cifar10": {
        "Conv": 9, "Relu": 7, "Add": 4, "AveragePool": 1, "Reshape": 1, "MatMul": 1, "Softmax": 1,
    },
    "mlperf_tiny_mobilenetv1_vww": {
        "Conv": 27, "Relu": 27, "AveragePool": 1, "Reshape": 1, "MatMul": 1, "Add": 1, "Softmax": 1,
    },
    "mlperf_tiny_dscnn_kws": {
        "Conv": 9, "Relu": 9, "AveragePool": 1, "Reshape": 1, "MatMul": 1, "Add": 1, "Softmax": 1,
    },
    "mlperf_tiny_autoencoder_toycar": {"MatMul": 10, "Add": 10, "Relu": 9},
    "mobilenet_v2_100_imagenet_deq": {
        "Conv": 53, "Clip": 35, "Add": 10, "GlobalAveragePool": 1, "Reshape": 1, "Softmax": 1,
    },
    "squeezenet1_1_imagenet": {
        "Conv": 26, "Relu": 26, "MaxPool": 3, "Concat": 8, "GlobalAveragePool": 1, "Reshape": 1, "Softmax": 1,
    },
    "yolox_nano_coco": {
        "Conv": 113, "Unary": 104, "Sigmoid": 6, "Concat": 18, "Add": 7, "Slice": 6, "MaxPool": 3, "Resize": 2,
        "Reshape": 3, "Transpose": 1,
    },
    "vit_cifar10_prenorm_d4": {
        "Conv": 1, "Reshape": 17, "Transpose": 17, "Concat": 1, "Add": 34, "LayerNormalization": 9, "MatMul": 33,
        "Unary": 8, "Softmax": 4, "Gather": 1,
    },
    "vit_mnist_d6": {
        "Conv": 1, "Reshape": 25, "Transpose": 25, "Concat": 1, "Add": 32, "LayerNormalization": 13, "MatMul": 49,
        "Unary": 6, "Softmax": 6, "Relu": 6, "Gather": 1,
    },
    "all_minilm_l6_v2": None,
}  # fmt: skip


def samples(zoo: Path, name: str) -> dict[str, np.ndarray]:
    sys.path.insert(0, str(zoo))
    try:
        import evaluate

        return evaluate.calibration(name, 3)
    finally:
        sys.path.remove(str(zoo))


@pytest.mark.parametrize("name", EXPECTED)
def test_zoo_model(zoo, name):
    path = zoo / "models" / name / "model.onnx"
    graph = frontend.load(path)
    expected = EXPECTED[name]
    assert expected is None or ops(graph) == expected
    assert graph.notes == []
    data = samples(zoo, name)
    assert set(data) == {value.name for value in graph.inputs}
    for index in range(2):
        feeds = {key: array[index : index + 1] for key, array in data.items()}
        for output, array in original(str(path), feeds).items():
            found = graph.run(feeds)[output]
            np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(array).max())))


def test_yolox_has_one_function_the_silu(zoo):
    graph = frontend.load(zoo / "models" / "yolox_nano_coco" / "model.onnx")
    assert len(graph.model.functions) == 1
    assert {node.metadata_props["edgeq.label"] for node in graph.nodes if node.domain} == {"SiLU"}


def test_a_larger_batch(zoo):
    name = "mlperf_tiny_resnet8_cifar10"
    path = zoo / "models" / name / "model.onnx"
    graph = frontend.load(path, batch=3)
    feeds = samples(zoo, name)
    np.testing.assert_allclose(graph.run(feeds)["output"], original(str(path), feeds)["output"], rtol=1e-4, atol=1e-4)
