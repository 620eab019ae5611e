"""Float graphs that were made before: the same file, shapes and front end give the same graph.

Reading and simplifying a model costs as much as compiling it with warm caches. Files with external data are read every
time: their content isn't all that counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgeq.cache import cache_dir, content_key
from edgeq.files import atomic_path, write_text
from edgeq.frontend.graph import FloatGraph

FOLDER = "float"
MAX_BYTES = 512 * 1024 * 1024  # larger files aren't kept a second time


def cached(
    path: Path,
    batch: int | None,
    shapes: Mapping[str, Sequence[int]] | None,
    compute: Callable[[], tuple[FloatGraph, bool]],
) -> FloatGraph:
    """The float graph of a file, from the cache where it was computed before.

    Args:
        path: the model's file. batch, shapes: what else the graph depends on.
        compute: the graph, and whether it came from this one file. Its errors pass through.

    Returns:
        the graph as it was read back from the cache, so that it is the same the first time and later; a damaged entry
        counts as absent.
    """
    content = _content(path)
    if content is None:
        return compute()[0]
    sizes = sorted((name, tuple(shape)) for name, shape in (shapes or {}).items())
    folder = cache_dir(FOLDER, content_key([content, repr((batch, sizes)), _software()]))
    found = _read(folder, path)
    if found is None:
        made, alone = compute()
        if not alone:
            return made
        with atomic_path(folder / "graph.onnx") as scratch:
            made.save(scratch)
        write_text(folder / "notes.json", json.dumps(made.notes))  # last: what has it is complete
        found = _read(folder, path) or made
    return found


def _content(path: Path) -> bytes | None:
    """The file's bytes; None for what is too large, or can't be read: whoever reads the model says why."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError:
        return None


def _read(folder: Path, source: Path) -> FloatGraph | None:
    try:
        notes = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
        return FloatGraph(ir.load(folder / "graph.onnx"), str(source), notes)
    except (OSError, ValueError, DecodeError):
        return None


@lru_cache(maxsize=1)
def _software() -> str:
    """The front end's sources and the libraries whose passes it uses."""
    sources = sorted(Path(__file__).parent.glob("**/*.py"))
    versions = [f"{name} {metadata.version(name)}" for name in ("onnx", "onnx_ir", "onnxscript", "numpy")]
    return content_key([*versions, *(source.read_bytes() for source in sources)])
