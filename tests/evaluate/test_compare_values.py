"""The first op where two executions part: artifacts with debug outputs, devices' dumps, roundings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edgeq
from edgeq.cli.main import invoke
from edgeq.errors import DataError, UsageError
from edgeq.evaluate.compare import compare
from edgeq.evaluate.models import IntegerModel, open_model
from edgeq.evaluate.rounding import SUSPECTS
from edgeq.evaluate.trace import Value, trace
from edgeq.integer import IntegerGraph
from edgeq.integer.shown import show_values
from edgeq.quantize import Policy, QuantizeOptions, quantize
from tests.diagnose.conftest import outlier_network, samples_for

Array = NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.int.onnx (its requantizations in the form `single`), x.npz."""
    path = tmp_path_factory.mktemp("compare")
    graph = outlier_network(path)
    data = samples_for(graph, 4)
    policy = Policy.of({"defaults": {"requantize": "single"}})
    quantize(graph, data, QuantizeOptions(policy=policy, recipe="fast")).graph.save(path / "model.int.onnx")
    np.savez(path / "x.npz", **data.arrays)
    return path


def values(folder: Path) -> dict[str, Value]:
    model = open_model(folder / "model.int.onnx")
    with np.load(folder / "x.npz") as arrays:
        return {value.name: value for value in trace(model, dict(arrays))}


def dump(folder: Path, **arrays: Array) -> Path:
    np.savez(folder / "dump.npz", **arrays)
    return folder / "dump.npz"


def test_debug_outputs_show_every_value(folder: Path) -> None:
    graph = IntegerGraph.load(folder / "model.int.onnx")
    shown = show_values(graph)
    assert next(v.name for v in shown.model.graph.outputs) == "third"
    result = edgeq.compile(folder / "model.int.onnx", output=folder / "all.edgeq", debug_outputs=True)
    found = compare(folder / "model.int.onnx", result.path, folder / "x.npz")
    assert found.equal
    assert {layer.tensor for layer in found.layers} == {v.name for v in shown.model.graph.outputs}
    assert all(layer.exact for layer in found.layers)
    # The artifact itself knows nodes, ops and order.
    other = compare(result.path, folder / "model.int.onnx", folder / "x.npz")
    assert [(d.tensor, d.node, d.op) for d in other.layers] == [(d.tensor, d.node, d.op) for d in found.layers]
    assert found.layers[0].form.startswith("single")


def test_static_libraries_have_no_debug_outputs(folder: Path) -> None:
    with pytest.raises(UsageError, match="static has no debug outputs"):
        edgeq.compile(folder / "model.int.onnx", target="cortex-m4", output=folder / "lib", debug_outputs=True)


def test_equal_dump(folder: Path) -> None:
    own = values(folder)
    flat = {name: value.raw.reshape(4, -1) for name, value in own.items() if value.raw is not None}
    found = compare(folder / "model.int.onnx", dump(folder, **flat), folder / "x.npz")
    assert found.equal
    assert found.samples == 4
    assert found.kind_b == "dump"
    stored = (own["third"].raw.astype(np.int16) + 128).astype(np.uint8) if own["third"].raw is not None else None
    assert stored is not None
    if own["third"].raw is not None and own["third"].raw.dtype == np.int8:
        assert compare(folder / "model.int.onnx", dump(folder, third=stored), folder / "x.npz").equal
    real = compare(folder / "model.int.onnx", dump(folder, third=own["third"].real), folder / "x.npz")
    assert real.equal
    assert not real.layers[0].exact


@pytest.mark.parametrize("name", [name for name in SUSPECTS if "single" not in name and "half" not in name[:4]])
def test_other_roundings_are_recognised(folder: Path, name: str) -> None:
    model, own = open_model(folder / "model.int.onnx"), values(folder)
    assert isinstance(model, IntegerModel)
    step = next(s for s in model.graph.steps() if s.node.op_type == "Requantize")
    acc, multiplier, shift = own[str(step.node.inputs[0].name)].raw, *step.call.constants[1:3]
    assert acc is not None
    assert multiplier is not None
    assert shift is not None
    product = acc.astype(np.int64) * multiplier
    rounded = SUSPECTS[name](product, shift.astype(np.int64)) + step.call.attrs["zero_point"]
    tensor = str(step.node.outputs[0].name)
    own_raw = own[tensor].raw
    assert own_raw is not None
    theirs = np.clip(rounded, step.call.attrs["low"], step.call.attrs["high"]).astype(own_raw.dtype)
    assert not np.array_equal(theirs, own_raw)
    found = compare(folder / "model.int.onnx", dump(folder, **{tensor: theirs}), folder / "x.npz")
    assert found.first is not None
    assert (found.first.tensor, found.first.op) == (tensor, "Requantize")
    assert name in found.explanations


@pytest.mark.parametrize(
    ("t", "s", "expected"),
    [
        (5, 1, [3, 3, 2, 3, 2, 2]),
        (-5, 1, [-2, -3, -2, -3, -3, -2]),
        (3, 1, [2, 2, 2, 2, 1, 1]),
        (7, 2, [2, 2, 2, 2, 1, 1]),
    ],
)
def test_suspects_by_hand(t: int, s: int, expected: list[int]) -> None:
    found = [int(rounding(np.int64(t), np.int64(s))) for rounding in SUSPECTS.values()]
    assert found == expected


def test_bad_dumps(folder: Path) -> None:
    graph, data = folder / "model.int.onnx", folder / "x.npz"
    with pytest.raises(DataError, match="another size"):
        compare(graph, dump(folder, third=np.zeros((4, 3))), data)
    with pytest.raises(DataError, match="the dump is empty"):
        compare(graph, dump(folder), data)
    with pytest.raises(DataError, match="can't be compared"):
        compare(graph, dump(folder, third=np.zeros((4, 3)), second=np.zeros(2)), data)
    with pytest.raises(DataError, match="more samples than the inputs"):
        compare(graph, dump(folder, third=np.zeros((5, 256))), data)
    with pytest.raises(UsageError, match="no tensor in common"):
        compare(graph, dump(folder, nothing=np.zeros((4, 3))), data)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="can't read the dump"):
        compare(graph, folder / "broken.npz", data)


def test_command_names_op_and_rounding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = values(folder)
    raw = own["first_relu"].raw
    assert raw is not None
    given = ["compare", str(folder / "model.int.onnx"), str(dump(folder, first_relu=raw ^ 1)), "--input"]
    assert invoke([*given, str(folder / "x.npz")]) == 1
    shown = capsys.readouterr().out
    assert "first difference" in shown
    assert "Requantize rounds so: single" in shown
    assert invoke([*given, str(folder / "x.npz"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first"]["tensor"] == "first_relu"
