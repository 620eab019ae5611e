"""Small models from text, and the comparison that every front end test ends in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from edgeq import frontend

ZOO = Path(__file__).resolve().parents[2].parent / "shared" / "zoo"


def model(text: str, opset: int = 17, domains: str = "", **constants: np.ndarray) -> onnx.ModelProto:
    """A model from ONNX's text form, `g (float[1,3] x) => (float[1,3] y) { … }`; constants become initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}{domains}]> {text}')
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def save(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def random_feeds(graph: frontend.FloatGraph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.inputs:
        dtype, shape = value.dtype.numpy(), tuple(value.shape)
        feeds[value.name] = (
            rng.normal(0, 2, shape).astype(dtype) if dtype.kind == "f" else rng.integers(0, 3, shape).astype(dtype)
        )
    return feeds


def original(source: bytes | str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # else it computes in 8 bits
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(proto: onnx.ModelProto, folder: Path, *, tolerance: float = 1e-4, **options: object) -> frontend.FloatGraph:
    """Load the model and compare it with the source in ONNX Runtime on random inputs."""
    graph = frontend.load(save(proto, folder), **options)  # type: ignore[arg-type]
    feeds = random_feeds(graph)
    expected = original(proto.SerializeToString(), feeds)
    found = graph.run(feeds)
    assert list(found) == [output.name for output in proto.graph.output]
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)
    return graph


def ops(graph: frontend.FloatGraph) -> dict[str, int]:
    """How often each op occurs; all functions of one tensor count as 'Unary'."""
    return dict(Counter("Unary" if node.domain else node.op_type for node in graph.nodes))


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def batchnorm(channels: int) -> dict[str, np.ndarray]:
    """Scale, bias, mean and variance of a BatchNormalization, by the names ga, be, mu, va."""
    variance = np.abs(weights(channels, seed=3)) + 0.5
    scale, bias = weights(channels, seed=1) + 1, weights(channels, seed=2)
    return {"ga": scale, "be": bias, "mu": weights(channels), "va": variance}
