"""How weights are stored, from the compile option and from notes on nodes: smaller artifacts, the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeq import artifact, runtime
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.errors import CompileError
from edgeq.integer import reference
from edgeq.integer.graph import STORAGE, IntegerGraph
from tests.support.graphs import Layers


class NarrowLayers(Layers):
    """Layers whose weights have 4 bits."""

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-7, 8, shape).astype(np.int8)

    def narrow(self, acc: ir.Value, channels: tuple[int, ...], spread: float, low: int = -128) -> ir.Value:
        return super().narrow(acc, channels, spread * 7 / 127, low)


def narrow_network() -> IntegerGraph:
    """Two convolutions around a depthwise one, and a matrix product."""
    m = NarrowLayers()
    y = m.conv(m.conv(m.conv(m.input(1, 8, 10, 9), 24, 3), 24, 3, group=24), 16, 1)
    return m.finish(m.gemm(m.emit("Flatten", y, axis=1), 12))


def compiled_bits(graph: IntegerGraph, storage: Storage, folder: Path) -> tuple[dict[str, int | None], int]:
    """({op: stored bits}, weight bytes) of an artifact that gives the reference's bits."""
    target = load_target("host")
    compiled = compile_graph(graph, target, CompileOptions(weights=storage))
    path = folder / f"{storage}.edgeq"
    artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    model = runtime.load(path)
    rng = np.random.default_rng(3)
    inputs = {t.name: rng.integers(-128, 128, t.shape).astype(np.int8) for t in compiled.image.inputs}
    expected = reference.run(graph, inputs)
    for name, value in model.run(inputs).items():
        np.testing.assert_array_equal(value, expected[name])
    layers = compiled.image.manifest["layers"]
    return {layer["ops"][0] + str(i): layer["weight_bits"] for i, layer in enumerate(layers)}, len(
        compiled.image.weights
    )


def test_small_weights_take_less_and_give_the_same_bits(tmp_path: Path) -> None:
    graph = narrow_network()
    fast, fast_bytes = compiled_bits(graph, "fast", tmp_path)
    small, small_bytes = compiled_bits(graph, "small", tmp_path)
    assert 4 not in fast.values()
    assert list(small.values()).count(4) == 3
    assert small_bytes < fast_bytes


def test_a_note_on_a_node_wins_over_the_option(tmp_path: Path) -> None:
    graph = narrow_network()
    gemm = next(node for node in graph.model.graph if node.op_type == "Gemm")
    gemm.metadata_props[STORAGE] = "fast"
    bits, _ = compiled_bits(graph, "small", tmp_path)
    assert [b for op, b in bits.items() if op.startswith("Gemm")] == [8]
    gemm.metadata_props[STORAGE] = "tiny"
    with pytest.raises(CompileError, match="can't be stored 'tiny'"):
        compile_graph(graph, load_target("host"))
