"""Files that are not what they should be."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.external_data_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import frontend
from edgeq.errors import ModelError
from tests.frontend.models import check, model, original, random_feeds, save, weights

TEXT = "g (float[1,8] x) => (float[1,5] y) { m = MatMul(x, w)  y = Relu(m) }"


def small() -> onnx.ModelProto:
    return model(TEXT, w=weights(8, 5))


def refused(path, match: str) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        frontend.load(path)
    assert caught.value.where
    return caught.value


def external(folder, location: str = "weights.bin", **entries: str) -> onnx.ModelProto:
    """The small model with its weights in a file, said to be at `location`."""
    proto = small()
    tensor = proto.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    tensor.ClearField("raw_data")
    (folder / "weights.bin").write_bytes(weights(8, 5).tobytes())
    return proto


def test_no_file(tmp_path):
    refused(tmp_path / "nowhere.onnx", r"There is no file nowhere\.onnx")


def test_a_folder(tmp_path):
    refused(tmp_path, "is not a file")


def test_unreadable(tmp_path, monkeypatch):
    path = save(small(), tmp_path)

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", fail)
    refused(path, "can't be read")


def test_empty(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    refused(tmp_path / "m.onnx", "is empty")


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"PK\x03\x04 zipped", r"torch\.onnx\.export"),
        (b"\x1c\0\0\0TFL3 flat", "tf2onnx"),
        (b"\x7fELF\x02\x01\x01", "edgeq run"),
        (b"just some text, not a model", "ONNX format"),
    ],
)
def test_not_onnx(tmp_path, data, hint):
    (tmp_path / "m.onnx").write_bytes(data)
    refused(tmp_path / "m.onnx", rf"is not an ONNX file(.|\n)*{hint}")


def test_another_protobuf(tmp_path):
    (tmp_path / "m.onnx").write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    refused(tmp_path / "m.onnx", "no graph in it")


def test_truncated_anywhere(tmp_path):
    data = small().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        refused(path, "truncated or damaged|not an ONNX file")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 3))
def test_damaged_bytes_load_or_are_refused(tmp_path_factory, position, change, kind):
    bodies = [TEXT, TEXT.replace("Relu", "Softmax<axis=-1>"), TEXT.replace("MatMul", "Gemm<alpha=0.5>"), TEXT]
    data = bytearray(model(bodies[kind], w=weights(8, 5)).SerializeToString())
    data[position % len(data)] ^= change
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    path.write_bytes(bytes(data))
    try:
        frontend.load(path)
    except ModelError:
        return  # refused with a message of ours, which is as good as loading it


def test_invalid_graph(tmp_path):
    proto = small()
    proto.graph.node[1].input[0] = "nobody"
    refused(save(proto, tmp_path), r"is not a valid ONNX model(.|\n)*nobody")


def test_tensor_shorter_than_its_shape(tmp_path):
    proto = small()
    proto.graph.initializer[0].dims[0] = 1 << 40
    refused(save(proto, tmp_path), "Tensor 'w' doesn't hold as much data")


def test_tensor_of_floats_shorter_than_its_shape(tmp_path):
    proto = model(TEXT)
    proto.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [8, 5], [0.5] * 40))
    del proto.graph.initializer[0].float_data[0]
    refused(save(proto, tmp_path), "Tensor 'w' doesn't hold as much data")


@pytest.mark.parametrize("dtype", [0, 14, 999])
def test_tensor_of_a_strange_dtype(tmp_path, dtype):
    proto = small()
    proto.graph.initializer[0].data_type = dtype
    refused(save(proto, tmp_path), "Tensor 'w' has a dtype or shape that can't be read")


def test_negative_dimension(tmp_path):
    proto = small()
    proto.graph.initializer[0].dims[0] = -8
    refused(save(proto, tmp_path), "Tensor 'w' has a dtype or shape that can't be read")


def test_tensors_in_attributes_and_functions_are_checked(tmp_path):
    text = """<domain: "own", opset_import: ["": 17]> F (x) => (y) {
        c = Constant<value = float[2] {1.0, 2.0}>()  y = Add(x, c) }"""
    proto = model("g (float[1,2] x) => (float[1,2] y) { y = own.F(x) }", domains=', "own": 1')
    proto.functions.append(onnx.parser.parse_function(text))
    check(proto, tmp_path)
    proto.functions[0].node[0].attribute[0].t.dims[0] = 3
    refused(save(proto, tmp_path), "doesn't hold as much data")


def test_external_data(tmp_path):
    proto = external(tmp_path)
    graph = frontend.load(save(proto, tmp_path))
    feeds = random_feeds(graph)
    np.testing.assert_allclose(graph.run(feeds)["y"], original(small().SerializeToString(), feeds)["y"], rtol=1e-5)
    (tmp_path / "weights.bin").unlink()  # everything is in memory
    graph.run(feeds, keep=["m"])


def test_external_data_is_missing(tmp_path):
    proto = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    refused(save(proto, tmp_path), r"The data file 'weights\.bin' is missing")


def test_external_data_is_short(tmp_path):
    proto = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 100)
    refused(save(proto, tmp_path), r"'weights\.bin' is too short(.|\n)*160 bytes at 0 are needed; the file has 100")


@pytest.mark.parametrize("entries", [{"offset": "-4"}, {"offset": "8"}, {"length": "16"}])
def test_external_data_at_a_wrong_place(tmp_path, entries):
    refused(save(external(tmp_path, **entries), tmp_path), "is too short or doesn't belong")


def test_external_data_at_no_number(tmp_path):
    refused(save(external(tmp_path, offset="0x10"), tmp_path), "is not a number")


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "a/../../secret.bin", "", "."])
def test_external_data_outside_the_folder(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(weights(8, 5).tobytes())
    refused(save(external(folder, location), folder), "lies outside the model's folder")


def test_external_data_behind_a_link_out_of_the_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(weights(8, 5).tobytes())
    (folder / "data.bin").symlink_to(tmp_path / "secret.bin")
    refused(save(external(folder, "data.bin"), folder), "lies outside the model's folder")


@pytest.mark.parametrize("opset", [7, 12, 99])
def test_opset_out_of_range(tmp_path, opset):
    proto = small()
    proto.opset_import[0].version = opset
    error = refused(save(proto, tmp_path), "opset")
    assert opset == 99 or "opsets 13 to" in (error.why or "")


def test_no_opset(tmp_path):
    proto = small()
    del proto.opset_import[:]
    refused(save(proto, tmp_path), "it names no opset")
