"""IntegerGraph: what it holds, saving, loading, broken and foreign files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import edgeq
from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.integer import IntegerGraph, Quant, oracle, reference
from edgeq.integer.builder import GraphBuilder, emit
from edgeq.integer.registry import all_ops
from tests.integer.cases import CASES, RandomChoice

S8, S32 = np.dtype(np.int8), np.dtype(np.int32)


def small_graph(calibrated: bool = True) -> IntegerGraph:
    """Conv, Requantize and a Reshape; input x, output y."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()
    x = builder.input("x", S8, [1, 2, 4, 4], Quant(S8, 0.1, 3))
    w = rng.integers(-128, 128, (3, 2, 3, 3)).astype(S8)
    acc = emit(builder, "Conv", [x, w, np.zeros((1, 3, 1, 1), S32)], name="stem", x_zero_point=3, pads=[1, 1, 1, 1])
    constants = [np.full((1, 3, 1, 1), 2**30, S32), np.full((1, 3, 1, 1), 38, S32)]
    out = emit(builder, "Requantize", [acc, *constants], to=S8, zero_point=-5, quant=Quant(S8, 0.025, -5))
    builder.output(emit(builder, "Reshape", [out, np.array([0, -1])], quant=Quant(S8, 0.025, -5)), "y")
    return builder.finish(calibrated)


GRAPH = small_graph()
X = {"x": np.arange(-16, 16, dtype=np.int8).reshape(1, 2, 4, 4)}


def proto() -> onnx.ModelProto:
    return onnx.load_model_from_string(GRAPH.to_bytes())


def refused(model: onnx.ModelProto) -> str:
    """The message with which a changed file is refused."""
    with pytest.raises(ModelError) as caught:
        IntegerGraph.from_bytes(model.SerializeToString(), "m.onnx")
    assert "m.onnx" in str(caught.value)
    return str(caught.value)


def test_round_trip_keeps_bits_scales_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    small_graph(calibrated=False).save(path)
    loaded = IntegerGraph.load(path)
    assert loaded.to_bytes() == path.read_bytes()
    assert not loaded.calibrated
    assert GRAPH.calibrated
    assert loaded.quant("y") == Quant(S8, 0.025, -5)
    assert loaded.quant(loaded.inputs[0]) == Quant(S8, 0.1, 3)
    assert loaded.model.metadata_props["edgeq.version"] == edgeq.__version__
    assert [v.name for v in loaded.outputs] == ["y"]
    expected = reference.run(GRAPH, X)["y"]
    for found in (reference.run(loaded, X), oracle.run(loaded, X), oracle.run_onnx(loaded, X)):
        assert np.array_equal(found["y"], expected)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_the_file_is_valid_onnx() -> None:
    model = proto()
    onnx.checker.check_model(model)
    assert {f.name for f in model.functions} == {"Conv", "Requantize"}
    assert model.functions[0].domain == "edgeq"


@pytest.mark.parametrize("op", sorted(op.name for op in all_ops()))
def test_every_op_saves_as_valid_onnx(op: str) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(CASES[op](RandomChoice(1)).graph.to_bytes()))


def test_values_without_scale_or_name() -> None:
    with pytest.raises(ModelError, match=r"a value has no scale\n  where: stem_out[\s\S]*quantize the model again"):
        GRAPH.quant("stem_out")
    with pytest.raises(ModelError, match="no such value in the integer graph\n  where: nothing"):
        GRAPH.quant("nothing")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_truncated_files_are_refused(data: st.DataObject) -> None:
    whole = GRAPH.to_bytes()
    with pytest.raises(ModelError):
        IntegerGraph.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_bytes_never_give_anything_but_a_clear_error(data: st.DataObject) -> None:
    whole = bytearray(GRAPH.to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ModelError):  # a changed weight or name may still be a valid graph
        IntegerGraph.from_bytes(bytes(whole))


def test_files_that_are_no_integer_graphs(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(ModelError, match=rf"not an ONNX file, or truncated\n  where: {path}"):
        IntegerGraph.load(path)
    with pytest.raises(ModelError, match=r"can't be read\n[\s\S]*No such file"):
        IntegerGraph.load(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match=r"not an ONNX file, or truncated[\s\S]*no graph"):
        IntegerGraph.from_bytes(b"")
    node = helper.make_node("Relu", ["x"], ["y"])
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    plain = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]))
    assert "not an integer graph" in refused(plain)
    assert "edgeq quantize" in refused(plain)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't be written\n[\s\S]*No such file"):
        GRAPH.save(tmp_path / "no" / "m.onnx")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="can't be written"):
        GRAPH.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_other_versions() -> None:
    model = proto()
    next(o for o in model.opset_import if o.domain == "edgeq").version = 2
    assert "of another version\n" in refused(model)


def test_missing_and_changed_functions() -> None:
    model = proto()
    del model.functions[1]
    assert "the function of edgeq.Requantize is missing" in refused(model)
    model = proto()
    model.functions[0].node[0].attribute[0].name = "value_ints"
    assert "the function of edgeq.Conv is not the one of this version" in refused(model)


def test_unknown_ops() -> None:
    model = proto()
    model.graph.node[2].op_type = "Relu"
    with pytest.raises(UnsupportedOpError, match="ONNX op Relu has no integer form"):
        IntegerGraph.from_bytes(model.SerializeToString())
    model = proto()
    model.graph.node[0].op_type = "Convolution"
    with pytest.raises(UnsupportedOpError, match="the edgeq domain has no op Convolution"):
        IntegerGraph.from_bytes(model.SerializeToString())


def test_values_of_wrong_type() -> None:
    model = proto()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    assert "a value is not an integer\n  where: m.onnx: x\n  why: it is FLOAT" in refused(model)
    model = proto()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert "a shape is not static\n  where: m.onnx: x" in refused(model)
    model = proto()
    model.graph.input[0].ClearField("type")
    assert "a value has no type or shape" in refused(model)
    model = proto()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    assert "output y is declared int8[1, 7], it is int8[1, 48]" in refused(model)


def test_broken_initializers() -> None:
    model = proto()
    weight = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8)
    weight.raw_data = weight.raw_data[:-1]
    assert "broken" in refused(model)


def test_order_and_names() -> None:
    model = proto()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[1], nodes[0], nodes[2]])
    assert "nothing before it makes its input stem_out" in refused(model)
    model = proto()
    del model.graph.output[:]
    assert "has no outputs" in refused(model)
