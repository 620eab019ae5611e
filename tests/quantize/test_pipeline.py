from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgeq.quantize
from edgeq.errors import DataError, PolicyError, UnsupportedOpError, UsageError
from edgeq.frontend import load
from edgeq.integer import IntegerGraph, reference
from edgeq.quantize import Policy, QuantizeOptions, calibrate, integerize, quantize
from edgeq.quantize.report import NO_NOISE, agreement, quantize_inputs, sqnr
from tests.quantize.models import ModelMaker, samples, small_classifier


def test_classifier_end_to_end(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    seen: list[tuple[str, int, int]] = []
    options = QuantizeOptions(progress=lambda *step: seen.append(step))
    result = quantize(graph, samples(graph), options)
    report = json.loads(json.dumps(result.report.as_dict()))
    assert report["calibrated"]
    assert report["samples"] == report["compared"] == 16
    assert report["outputs"][0]["top1_agreement"] == 1.0
    assert report["outputs"][0]["sqnr_db"] > 25
    assert report["warnings"] == []
    assert {step[0] for step in seen} == {"calibrate", "recipe", "compare"}
    assert all(done <= total for _, done, total in seen)
    result.graph.save(tmp_path / "m.int.onnx")
    assert IntegerGraph.load(tmp_path / "m.int.onnx").calibrated


def test_steps_one_by_one_give_the_same_graph(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    data = samples(graph)
    parts = integerize(graph, calibrate(graph, data, "l2.4"), Policy())
    assert parts.to_bytes() == quantize(graph, data, QuantizeOptions(recipe="fast")).graph.to_bytes()


def test_threads_change_nothing(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    data = samples(graph)
    one, four = (quantize(graph, data, QuantizeOptions(threads=n)).graph.to_bytes() for n in (1, 4))
    assert one == four


def test_random_data_is_marked(tmp_path: Path) -> None:
    result = quantize(small_classifier(tmp_path))
    assert not result.graph.calibrated
    assert not result.report.calibrated
    assert "random data" in result.report.warnings[0]


def test_values_keep_their_names(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    result = quantize(graph, samples(graph), QuantizeOptions(compare_samples=0))
    assert [value.name for value in result.graph.inputs] == ["x"]
    assert [value.name for value in result.graph.outputs] == [value.name for value in graph.outputs]
    assert result.graph.quant("stem_relu").zero_point == -128


def test_unsupported_op_names_layer_and_cost(tmp_path: Path) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 3, 8)
    y = m.node("CumSum", [x, m.constant(np.array(2, np.int64))], ["summed"])
    graph = m.graph(tmp_path, y)
    with pytest.raises(UnsupportedOpError) as caught:
        quantize(graph, samples(graph))
    message = str(caught.value)
    assert "CumSum has no integer form" in message
    assert "node_summed" in message
    assert "--allow-float" in message
    assert "24 values dequantized and 24 quantized again" in message


def test_unsupported_attributes_name_the_layer(tmp_path: Path) -> None:
    m = ModelMaker()
    sizes = m.constant(np.array([1, 4, 9, 9], np.int64))
    y = m.node("Resize", [m.input("x", 1, 4, 5, 5), "", "", sizes], ["big"], mode="cubic")
    graph = m.graph(tmp_path, y)
    with pytest.raises(UnsupportedOpError, match="mode 'cubic'") as caught:
        quantize(graph, samples(graph))
    assert "node_big" in str(caught.value.where)


def test_wrong_data_and_policy_are_found_first(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    with pytest.raises(DataError, match="no input 'y'"):
        quantize(graph, {"y": np.ones((8, 3, 12, 12), np.float32)})
    with pytest.raises(PolicyError, match="not in the model"):
        quantize(graph, samples(graph), QuantizeOptions(policy=Policy.parse("layers: {nowhere: {weight_bits: 4}}")))
    with pytest.raises(UsageError, match="unknown observer"):
        calibrate(graph, samples(graph), "best")


def test_data_that_breaks_the_float_model(tmp_path: Path) -> None:
    m = ModelMaker()
    y = m.node("Conv", [m.input("x", 1, 1, 2, 2), m.constant(np.full((1, 1, 1, 1), 3e38, np.float32))], ["huge"])
    graph = m.graph(tmp_path, y)
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        quantize(graph, {"x": np.full((8, 1, 2, 2), 1e30, np.float32)})
    assert "'huge'" in str(caught.value.where)


def test_options_from_outside(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("defaults: {weight_bits: 6}")
    options = QuantizeOptions.make(observer="mse", policy=tmp_path / "p.yaml", seed=3)
    assert (options.observer, options.seed) == ("mse", 3)
    assert options.policy is not None
    assert options.policy.defaults.weight_bits == 6
    with pytest.raises(UsageError, match="unknown observer"):
        QuantizeOptions.make(observer="MSE")
    with pytest.raises(UsageError, match="float islands"):
        QuantizeOptions.make(allow_float=True)


def test_dead_network_is_quantized(tmp_path: Path) -> None:
    """All weights zero: no range anywhere, and still a graph that runs and is right."""
    m = ModelMaker()
    x = m.input("x", 1, 2, 4, 4)
    y = m.node("Relu", [m.node("Conv", [x, m.constant(np.zeros((3, 2, 1, 1), np.float32))])])
    graph = m.graph(tmp_path, m.node("GlobalAveragePool", [m.node("Sigmoid", [y])]))
    result = quantize(graph, samples(graph))
    assert result.report.outputs[0].sqnr_db == NO_NOISE or abs(result.report.outputs[0].sqnr_db) == NO_NOISE


def test_qdq_scales_are_kept(tmp_path: Path) -> None:
    """A model with QuantizeLinear / DequantizeLinear pairs keeps its scales, zero points and integer weights."""
    m = ModelMaker()
    x = m.input("x", 1, 2, 4, 4)

    def pair(value: str, scale: float, zero: int, dtype: type, name: str) -> str:
        s, z = m.constant(np.array(scale, np.float32)), m.constant(np.array(zero, dtype))
        return m.node("DequantizeLinear", [m.node("QuantizeLinear", [value, s, z]), s, z], [name])

    weights = np.arange(-6, 6, dtype=np.int8).reshape(6, 2, 1, 1)
    scales = np.linspace(0.01, 0.06, 6).astype(np.float32)
    w = m.node("DequantizeLinear", [m.constant(weights), m.constant(scales), m.constant(np.zeros(6, np.int8))], axis=0)
    y = m.node("Conv", [pair(x, 0.031, 120, np.uint8, "xq"), w], ["sum"])
    y = pair(m.node("Relu", [y], ["relu"]), 0.005, -128, np.int8, "out")
    graph = m.graph(tmp_path, y, opset=21)
    result = quantize(graph, samples(graph))
    input_quant, output_quant = result.graph.quant("x"), result.graph.quant(str(graph.outputs[0].name))
    assert (input_quant.scale, input_quant.zero_point) == (pytest.approx(0.031), -8)
    assert (output_quant.scale, output_quant.zero_point) == (pytest.approx(0.005), -128)
    conv = next(node for node in result.graph.model.graph if node.op_type == "Conv")
    kept = conv.inputs[1].const_value
    assert kept is not None
    assert np.array_equal(kept.numpy(), weights)
    # Against ONNX's own meaning of the model: at most the last step differs.
    source = onnx.load(tmp_path / "model.onnx")
    from onnx.reference import ReferenceEvaluator

    feed = {"x": samples(graph)["x"][:1]}
    expected = ReferenceEvaluator(source).run(None, feed)[0]
    (found,) = reference.run(result.graph, quantize_inputs(result.graph, feed)).values()
    real = (found.astype(int) + 128) * 0.005
    assert np.abs(real - expected).max() <= 0.0051


def test_opset_17_and_batches(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"])
    shape = ["N", 5]
    proto = helper.make_graph([node], "g", [info("x", 1, shape)], [info("y", 1, shape)])
    path = tmp_path / "b.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    graph = load(path, batch=4)
    data = np.random.default_rng(0).standard_normal((10, 5)).astype(np.float32)
    result = quantize(graph, {"x": data})
    assert result.report.samples == 10
    assert result.report.outputs[0].sqnr_db > 30


def test_signal_to_noise_and_agreement() -> None:
    ref = [np.array([[1.0, 2.0, -3.0]])]
    assert sqnr(ref, ref) == NO_NOISE
    assert sqnr([np.ones(2)], [np.zeros(2)]) == -NO_NOISE
    assert sqnr([np.array([1.0, -1.0])], [np.array([1.1, -0.9])]) == pytest.approx(20)
    assert agreement(ref, [np.array([[0.0, 5.0, 5.0]])]) == 1.0
    assert agreement(ref, [np.array([[9.0, 5.0, 5.0]])]) == 0.0
    assert agreement([np.array([3, 4])], [np.array([3.0, 5.0])]) == 0.5
    assert agreement([np.zeros((1, 2, 2, 2))], [np.zeros((1, 2, 2, 2))]) is None


def test_importing_the_package_is_cheap_and_it_can_be_called() -> None:
    code = (
        "import sys, edgeq.quantize; assert callable(edgeq.quantize); "
        "assert not {'onnx', 'onnxruntime', 'numpy', 'pydantic'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert callable(edgeq.quantize.calibrate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgeq.quantize.nothing  # type: ignore[attr-defined]
