"""GraphBuilder and emit; running graphs with wrong inputs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeq.errors import ModelError, RunError
from edgeq.integer import Quant, oracle, reference
from edgeq.integer.builder import GraphBuilder, emit, emit_all, get_quant

S8 = np.dtype(np.int8)


def test_names_are_made_unique() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S8, [2])
    first = emit(builder, "Identity", [x], name="same")
    second = emit(builder, "Identity", [x], name="same", output="same_out")
    assert [n.name for n in builder.nodes] == ["same", "same_1"]
    assert (first.name, second.name) == ("same_out", "same_out_1")
    assert builder.constant(np.zeros(1, S8), "x").name == "x_1"


def test_outputs_are_renamed_or_copied() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S8, [2], Quant(S8, 0.5, 1))
    y = emit(builder, "Identity", [x])
    builder.output(y, "first")
    again = builder.output(y, "second")
    through = builder.output(x, "third")
    assert get_quant(through) == Quant(S8, 0.5, 1)
    assert get_quant(again) is None
    graph = builder.finish()
    data = {"x": np.array([1, 2], S8)}
    assert [v.name for v in graph.outputs] == ["first", "second", "third"]
    for found in (reference.run(graph, data), oracle.run(graph, data)):
        assert all(np.array_equal(found[k], data["x"]) for k in ("first", "second", "third"))


def test_to_takes_dtypes_names_and_numbers() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S8, [2])
    for to in (np.int16, np.dtype("int16"), "int16", 5):
        y = emit(builder, "Rescale", [x], multiplier=3, shift=1, to=to)
        assert y.dtype.numpy() == np.int16
        attrs = builder.nodes[-1].attributes
        assert (attrs["to"].value, attrs["low"].value, attrs["high"].value) == (5, -32768, 32767)


def test_keep_returns_every_value() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S8, [4])
    a, b = emit_all(builder, "Split", [x], 2, outputs=["a", "b"], num_outputs=2)
    builder.output(emit(builder, "Concat", [b, a], axis=0, output="y"))
    graph = builder.finish()
    data = {"x": np.arange(4, dtype=S8)}
    assert sorted(reference.run(graph, data)) == ["y"]
    assert sorted(reference.run(graph, data, keep=True)) == ["a", "b", "x", "y"]
    assert reference.run(graph, data)["y"].tolist() == [2, 3, 0, 1]


def test_a_graph_needs_outputs() -> None:
    builder = GraphBuilder()
    builder.input("x", S8, [4])
    with pytest.raises(ModelError, match="has no outputs"):
        builder.finish()


def test_wrong_inputs_of_a_run() -> None:
    builder = GraphBuilder()
    builder.output(emit(builder, "Identity", [builder.input("x", S8, [4])]), "y")
    graph = builder.finish()
    good = np.zeros(4, S8)
    with pytest.raises(RunError, match=r"an input is missing\n  where: x"):
        reference.run(graph, {})
    with pytest.raises(RunError, match=r"no such input\n  where: z"):
        reference.run(graph, {"x": good, "z": good})
    with pytest.raises(RunError, match=r"wrong type or shape[\s\S]*it is int8\[5\], the graph takes int8\[4\]"):
        reference.run(graph, {"x": np.zeros(5, S8)})
    with pytest.raises(RunError, match=r"wrong type or shape[\s\S]*float32"):
        reference.run(graph, {"x": good.astype(np.float32)})


def test_arithmetic_needs_no_onnx() -> None:
    code = (
        "import sys, edgeq.integer.arithmetic, edgeq.integer.exp2, edgeq.integer.interpolation\n"
        "assert not {'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
