"""QONNX's ops: what they become, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeq import frontend
from edgeq.errors import UnsupportedOpError
from tests.frontend.models import model, ops, save, weights

DOMAIN = ', "qonnx.custom_op.general": 1'
Q = "qonnx.custom_op.general"


def load(text: str, tmp_path, **constants: object) -> frontend.FloatGraph:
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    proto = model(f"g (float[1,4] x) => (float[1,4] y) {{ {text} }}", domains=DOMAIN, **arrays)
    return frontend.load(save(proto, tmp_path))


def said(graph: frontend.FloatGraph, name: str) -> tuple[str | None, ...]:
    metadata = graph.value(name).metadata_props
    return tuple(metadata.get(f"edgeq.{key}") for key in ("scale", "zero_point", "dtype", "low", "high"))


@pytest.mark.parametrize(
    ("bits", "signed", "narrow", "zero", "expected"),
    [
        (8, 1, 0, 0, ("0", "int8", None, None)),
        (8, 1, 1, 0, ("0", "int8", "-127", None)),
        (8, 0, 0, 3, ("3", "uint8", None, None)),
        (4, 1, 0, 0, ("0", "int8", "-8", "7")),
        (4, 0, 0, 0, ("0", "int8", "0", "15")),
        (4, 0, 1, 2, ("2", "int8", "0", "14")),
        (2, 1, 1, 0, ("0", "int8", "-1", "1")),
        (1, 0, 0, 0, ("0", "int8", "0", "1")),
        (16, 1, 0, 0, ("0", "int16", None, None)),
        (12, 1, 0, 0, ("0", "int16", "-2048", "2047")),
    ],
)
def test_activations(tmp_path, bits, signed, narrow, zero, expected):
    text = f"""t = Sigmoid(x) q = {Q}.Quant<signed = {signed}, narrow = {narrow}, rounding_mode = "ROUND">(t, s, z, b)
        y = MatMul(q, w)"""
    graph = load(text, tmp_path, s=0.25, z=zero, b=bits, w=np.eye(4))
    found = said(graph, "t")
    assert found == ("0.25", *expected)


def test_weights_become_integers(tmp_path):
    w = weights(4, 4)
    scale = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)
    text = f"""w = {Q}.Quant<signed = 1, narrow = 1>(v, s, z, b) t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)"""
    graph = load(text, tmp_path, v=w, s=scale, z=0, b=3)
    (dequantize,) = [node for node in graph.nodes if node.op_type == "DequantizeLinear"]
    expected = np.clip(np.rint(w / scale), -3, 3)
    np.testing.assert_array_equal(dequantize.inputs[0].const_value.numpy(), expected.T)
    np.testing.assert_array_equal(dequantize.inputs[1].const_value.numpy(), scale.reshape(-1))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("ROUND", [0, 2, -2, 1]),
        ("CEIL", [1, 2, -1, 1]),
        ("FLOOR", [0, 1, -2, 1]),
        ("ROUND_TO_ZERO", [0, 1, -1, 1]),
        ("UP", [1, 2, -2, 1]),
        ("HALF_UP", [1, 2, -2, 1]),
        ("HALF_DOWN", [0, 1, -1, 1]),
    ],
)
def test_rounding_of_constants(tmp_path, mode, expected):
    text = f'c = {Q}.Quant<signed = 1, narrow = 0, rounding_mode = "{mode}">(v, s, z, b) y = Add(x, c)'
    graph = load(text, tmp_path, v=[0.5, 1.5, -1.5, 1.0], s=1.0, z=0, b=8)
    zeros = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(next(iter(graph.run({"x": zeros}).values())), [expected])


def test_bipolar_weights(tmp_path):
    text = f"w = {Q}.BipolarQuant(v, s) y = MatMul(x, w)"
    graph = load(text, tmp_path, v=np.array([[0.0, -1, 2, -3]] * 4), s=0.5)
    (dequantize,) = [node for node in graph.nodes if node.op_type == "DequantizeLinear"]
    np.testing.assert_array_equal(dequantize.inputs[0].const_value.numpy()[0], [1, -1, 1, -1])


def test_bipolar_activations(tmp_path):
    graph = load(f"b = {Q}.BipolarQuant(x, s) y = Neg(b)", tmp_path, s=0.5)
    x = np.array([[-2.0, -0.1, 0.0, 3.0]], np.float32)
    np.testing.assert_array_equal(graph.run({"x": x})["y"], [[0.5, 0.5, -0.5, -0.5]])
    assert ops(graph)["Unary"] >= 1


def test_trunc(tmp_path):
    text = f"""t = Tanh(x) q = {Q}.Quant<signed = 1>(t, s, z, b)
        u = {Q}.Trunc<rounding_mode = "FLOOR">(q, s, z, b, o) y = Neg(u)"""
    graph = load(text, tmp_path, s=2**-7, z=0, b=8, o=5)
    x = np.array([[0.1, 0.5, -0.5, 2.0]], np.float32)
    expected = -np.floor(np.tanh(x) * 16) / 128
    np.testing.assert_allclose(graph.run({"x": x})["y"], expected, atol=1e-7)


def test_scales_may_be_computed_from_constants(tmp_path):
    graph = load(
        f"s = Mul(a, a) t = Tanh(x) q = {Q}.Quant(t, s, z, b) y = MatMul(q, w)", tmp_path, a=0.5, z=0, b=8, w=np.eye(4)
    )
    assert said(graph, "t")[0] == "0.25"


@pytest.mark.parametrize(
    ("text", "constants", "why"),
    [
        (f"y = {Q}.Quant(x, x, z, b)", {"z": 0, "b": 8}, "computed, not constant"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": [1, 2, 3, 4], "z": 0, "b": 8}, "one scale and one zero point per tensor"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": 0, "z": 0, "b": 8}, "finite and above 0"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": 1, "z": 0.5, "b": 8}, "not a whole number"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": 1, "z": 0, "b": 2.5}, "not one whole number"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": 1, "z": 0, "b": 0}, "bit width of 0"),
        (f"y = {Q}.Quant(x, s, z, b)", {"s": 1, "z": 0, "b": 24}, "more than 16 bits"),
        (f'y = {Q}.Quant<rounding_mode = "FLOOR">(x, s, z, b)', {"s": 1, "z": 0, "b": 8}, "rounds activations by"),
        (f'y = {Q}.Quant<rounding_mode = "ODD">(x, s, z, b)', {"s": 1, "z": 0, "b": 8}, "'ODD' is unknown"),
        (f"y = {Q}.BipolarQuant(x, s)", {"s": [1, 2, 3, 4]}, "one scale per tensor"),
        (f"y = {Q}.Trunc(x, s, z, b, o)", {"s": 1, "z": 0, "b": 4, "o": 8}, "fewer bits than the input"),
        (f"y = {Q}.Trunc(x, s, z, b, s, o)", {"s": 1, "z": 0, "b": 8, "o": 4}, "output scale of its own"),
        (f'y = {Q}.Trunc<rounding_mode = "UP">(x, s, z, b, o)', {"s": 1, "z": 0, "b": 8, "o": 4}, "rounding mode 'UP'"),
        (f"y = {Q}.FloatQuant(x, s)", {"s": 1}, "only Quant, BipolarQuant, Trunc are read"),
    ],
)
def test_refused(tmp_path, text, constants, why):
    with pytest.raises(UnsupportedOpError, match=why) as caught:
        load(text, tmp_path, **constants)
    assert "'" in (caught.value.where or "")
    assert caught.value.hint


def test_clipped_activations_need_one_scale(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        q = QuantizeLinear<axis = 1>(x, s, z)  c = Clip(q, lo, hi)  d = DequantizeLinear<axis = 1>(c, s, z)
        y = Tanh(d) }"""
    proto: onnx.ModelProto = model(
        text, s=np.full(4, 0.1, np.float32), z=np.zeros(4, np.int8), lo=np.int8(-8), hi=np.int8(7)
    )
    with pytest.raises(UnsupportedOpError, match="scale per channel"):
        frontend.load(save(proto, tmp_path))
