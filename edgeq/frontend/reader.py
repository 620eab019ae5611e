"""Read an ONNX file that may be anything: nothing in it is trusted until it is checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.checker
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgeq.errors import ModelError

_EXPORT_HINT = "export or download the model again"
_MOVE_HINT = "put the data files beside the model, under the names it gives"
# Bits per element. Sub-byte dtypes are packed.
_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8, "FLOAT16": 16,
    "DOUBLE": 64, "UINT32": 32, "UINT64": 64, "BFLOAT16": 16, "UINT4": 4, "INT4": 4, "UINT2": 2, "INT2": 2,
}  # fmt: skip
_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def read(path: Path) -> ir.Model:
    """Read and check a model file and the data files it refers to.

    Args:
        path: an ONNX file. External data must lie in its folder (or below).

    Returns:
        The model with all tensors in memory.

    Raises:
        ModelError: missing, empty, not ONNX, truncated, invalid, or with external data that is missing, too
            short, or outside the model's folder.
    """
    proto = _parse(path)
    for tensor in _tensors(proto):
        _check_tensor(path, tensor)
    _check(path, proto)
    try:
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, path.parent)
        return ir.external_data.load_to_model(model)
    except Exception as error:  # a hostile file can break the conversion in any way
        raise ModelError(
            f"{path.name} is not a valid ONNX model", where=str(path), why=_first_cause(error), hint=_EXPORT_HINT
        ) from error


def self_contained(path: Path) -> bool:
    """Whether a file that `read` accepts refers to no other file."""
    return all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in _tensors(_parse(path)))


def _parse(path: Path) -> onnx.ModelProto:
    where = str(path)
    if not path.exists():
        raise ModelError(f"There is no file {path.name}", where=where, hint="check the path")
    if not path.is_file():
        raise ModelError(f"{path.name} is not a file", where=where, hint="give the .onnx file itself")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name} can't be read", where=where, why=str(error)) from error
    if not data:
        raise ModelError(f"{path.name} is empty", where=where, hint=_EXPORT_HINT)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        # ONNX files start with field 1, the IR version.
        if data[0] == 0x08:
            raise ModelError(
                f"{path.name} is truncated or damaged", where=where, why=str(error), hint=_EXPORT_HINT
            ) from error
        raise ModelError(f"{path.name} is not an ONNX file", where=where, hint=_looks_like(data)) from error
    if not proto.HasField("graph"):
        raise ModelError(f"{path.name} is not an ONNX file", where=where, why="no graph in it", hint=_looks_like(data))
    if not proto.opset_import:
        raise ModelError(
            f"{path.name} is truncated or damaged", where=where, why="it names no opset", hint=_EXPORT_HINT
        )
    return proto


def _looks_like(data: bytes) -> str:
    if data[:2] == b"PK":
        return "this looks like a PyTorch file: export it with torch.onnx.export"
    if data[4:8] == b"TFL3":
        return "this looks like a TensorFlow Lite file: convert it with tf2onnx"
    if data[:4] == b"\x7fELF":
        return "this looks like a compiled artifact: use it with 'edgeq run'"
    return "give a model in ONNX format"


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)


def _check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    where = f"tensor '{tensor.name}' of {path}"
    if tensor.data_type == onnx.TensorProto.STRING:
        return
    known = tensor.data_type in onnx.TensorProto.DataType.values()
    bits = _BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type)) if known else None
    if bits is None or any(dim < 0 for dim in tensor.dims):
        raise ModelError(
            f"Tensor '{tensor.name}' has a dtype or shape that can't be read",
            where=where,
            why=f"dtype {tensor.data_type}, shape {list(tensor.dims)}",
            hint=_EXPORT_HINT,
        )
    count = math.prod(tensor.dims)
    size = (count * bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(path, tensor, size, where)
        return
    held = len(tensor.raw_data) if tensor.HasField("raw_data") else None
    if (held is not None and held != size) or (held is None and not _typed_count_fits(tensor, count, bits)):
        raise ModelError(
            f"Tensor '{tensor.name}' doesn't hold as much data as its shape says",
            where=where,
            why=f"shape {list(tensor.dims)} takes {size} bytes" + ("" if held is None else f", {held} are there"),
            hint=_EXPORT_HINT,
        )


def _typed_count_fits(tensor: onnx.TensorProto, count: int, bits: int) -> bool:
    # Sub-byte dtypes may lie packed in int32_data, one byte an entry.
    counts = {count, (count * bits + 7) // 8} if bits < 8 else {count}
    return sum(len(getattr(tensor, name)) for name in _TYPED_FIELDS) in counts


def _check_external(path: Path, tensor: onnx.TensorProto, size: int, where: str) -> None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    folder = path.parent.resolve()
    file = (path.parent / location).resolve() if location and "\0" not in location else folder
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder) or file == folder:
        raise ModelError(
            f"The data of tensor '{tensor.name}' lies outside the model's folder",
            where=where,
            why=f"the file gives its location as '{location}'",
            hint="this is how a hostile file would read yours; if you trust it, copy the data beside the model",
        )
    if not file.is_file():
        raise ModelError(f"The data file '{location}' is missing", where=where, hint=_MOVE_HINT)
    try:
        offset, length = int(said.get("offset", 0)), int(said.get("length", size))
    except ValueError as error:
        raise ModelError(
            f"The place of tensor '{tensor.name}' in '{location}' is not a number", where=where, why=str(error)
        ) from error
    there = file.stat().st_size
    if offset < 0 or length != size or offset + length > there:
        raise ModelError(
            f"The data file '{location}' is too short or doesn't belong to this model",
            where=where,
            why=f"{size} bytes at {offset} are needed; the file has {there}, the model says {length}",
            hint=_MOVE_HINT,
        )


def _check(path: Path, proto: onnx.ModelProto) -> None:
    external = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto))
    try:
        # With external data only the path tells the checker where to look.
        onnx.checker.check_model(str(path) if external else proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path.name} is not a valid ONNX model", where=str(path), why=_first_cause(error), hint=_EXPORT_HINT
        ) from error


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]
