"""Runs WebAssembly modules under Node.js: their golden vectors, given integers, or many runs to time."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact.tools import run_tool
from edgeq.artifact.wasm import read_manifest
from edgeq.errors import DataError, RunError, ToolError
from edgeq.runtime.sources import runtime_root

ENGINE, ENGINE_PACKAGE = "node", "nodejs"
_UNSUPPORTED = "unsupported"


def differing_bytes(module: Path) -> int | None:
    """Bytes of the golden vectors' outputs that differ from the reference; None: this engine can't run the module.

    Raises:
        ToolError: Node.js is missing, or fails.
    """
    printed = _node(module, "verify").strip()
    return None if printed == _UNSUPPORTED else int(printed)


def measure(module: Path, record: bytes | None, repeats: int) -> list[int]:
    """Nanoseconds of whole runs under Node.js, after some to warm up; `record`: the bytes of all inputs.

    Raises:
        RunError: this engine can't run the module. ToolError: Node.js is missing, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-node-") as folder:
        given = []
        if record is not None:
            given = [Path(folder) / "inputs"]
            given[0].write_bytes(record)
        times: list[int] = json.loads(_supported(module, _node(module, "bench", str(repeats), *given)))
    return times


def run_module(module: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a batch.

    Args:
        inputs: {name: integers [n, *shape without its leading 1]} as the module's manifest has them.

    Returns:
        {name: integers [n, *shape]}.

    Raises:
        DataError: inputs are missing, or of another dtype or size.
        RunError: this engine can't run the module.
        ToolError: Node.js is missing, or fails.
    """
    manifest = read_manifest(module)
    rows = []
    for tensor in manifest["inputs"]:
        values = inputs.get(tensor["name"])
        size = int(np.prod(tensor["shape"], dtype=np.int64))
        if values is None or values.dtype != tensor["dtype"] or values.size % size:
            raise DataError(f"input {tensor['name']!r} must be {tensor['dtype']} {tensor['shape']}", where=str(module))
        rows.append(np.ascontiguousarray(values).reshape(-1, size).view(np.uint8))
    if len({len(row) for row in rows}) != 1:
        raise DataError("inputs are of different batch sizes", where=str(module))
    with tempfile.TemporaryDirectory(prefix="edgeq-node-") as folder:
        given, found = Path(folder) / "inputs", Path(folder) / "outputs"
        given.write_bytes(np.concatenate(rows, axis=1).tobytes())
        _supported(module, _node(module, "run", given, found))
        return _outputs(np.frombuffer(found.read_bytes(), np.uint8).reshape(len(rows[0]), -1), manifest["outputs"])


def _outputs(data: np.ndarray, tensors: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    result: dict[str, np.ndarray] = {}
    start = 0
    for tensor in tensors:
        shape, dtype = tuple(tensor["shape"]), np.dtype(tensor["dtype"])
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        values = np.ascontiguousarray(data[:, start:end]).view(dtype)
        result[tensor["name"]] = values.reshape(len(data), *shape)
        start = end
    if start != data.shape[1]:
        raise RunError("Node.js wrote outputs of another size than the manifest says")
    return result


def unsupported(module: Path) -> RunError:
    """The error of an engine that lacks what the module needs."""
    return RunError(
        "this Node.js can't run the module",
        where=str(module),
        why=f"it needs {', '.join(read_manifest(module)['cpu_features'])}, which depends on engine and processor",
        hint="the module of `--target wasm-simd128` runs everywhere",
    )


def _supported(module: Path, printed: str) -> str:
    if printed.strip() == _UNSUPPORTED:
        raise unsupported(module)
    return printed


def _node(module: Path, *arguments: str | Path) -> str:
    engine = shutil.which(ENGINE)
    if engine is None:
        raise ToolError("running WebAssembly needs Node.js", hint=f"apt-get install {ENGINE_PACKAGE}")
    features = ",".join(read_manifest(module)["cpu_features"])
    given = [str(a.absolute()) if isinstance(a, Path) else a for a in (module, features, *arguments)]
    return run_tool([engine, runtime_root() / "wasm" / "run.mjs", *given], "running the module under Node.js")
