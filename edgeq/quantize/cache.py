"""Quantizations that were made before: the same float graph, data and options give the same integer graph.

Calibration and the search for s16 tensors take seconds; a second compile of an unchanged model must not pay again.
The key covers everything the result depends on, the quantizer's own sources included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from pydantic import TypeAdapter, ValidationError

from edgeq.cache import cache_dir, content_key
from edgeq.errors import ModelError
from edgeq.files import atomic_path
from edgeq.frontend.graph import FloatGraph
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize.pipeline import QuantizeOptions, QuantizeResult
from edgeq.quantize.report import QuantizeReport
from edgeq.quantize.samples.data import CalibrationData

# Options that change how the work is done, not what comes out.
WITHOUT_EFFECT = ("threads", "progress")
FOLDER = "quantized"


def cached(
    graph: FloatGraph,
    data: CalibrationData,
    options: QuantizeOptions,
    compute: Callable[[FloatGraph, CalibrationData, QuantizeOptions], QuantizeResult],
    others: Sequence[FloatGraph] = (),
) -> QuantizeResult:
    """The result of `compute`, from the cache where it was computed before.

    `others` are the graphs that `compute` quantizes besides. A damaged entry counts as absent: it is computed and
    written again.
    """
    folder = cache_dir(FOLDER, content_key(_key([graph, *others], data, options)))
    models = [folder / (f"graph-{index}.onnx" if index else "graph.onnx") for index in range(1 + len(others))]
    report = folder / "report.json"
    found = _read(models, report)
    if found is not None:
        return found
    result = compute(graph, data, options)
    for model, made in zip(models, (result.graph, *result.others), strict=True):
        with atomic_path(model) as scratch:
            made.save(scratch)
    with atomic_path(report) as scratch:
        scratch.write_text(json.dumps(result.report.as_dict()), encoding="utf-8")
    return result


def _read(models: Sequence[Path], report: Path) -> QuantizeResult | None:
    if not all(path.is_file() for path in (*models, report)):
        return None
    try:
        found = TypeAdapter(QuantizeReport).validate_json(report.read_text(encoding="utf-8"))
        first, *others = map(IntegerGraph.load, models)
        return QuantizeResult(first, found, tuple(others))
    except (ValidationError, ModelError, UnicodeDecodeError):
        return None


def _key(graphs: Sequence[FloatGraph], data: CalibrationData, options: QuantizeOptions) -> Iterator[bytes | str]:
    for graph in graphs:
        yield ir.to_proto(graph.model).SerializeToString(deterministic=True)
    yield repr((data.specs, data.source, data.calibrated, data.warnings))
    for name, array in sorted(data.arrays.items()):
        yield f"{name} {array.dtype} {array.shape}"
        yield np.ascontiguousarray(array).tobytes()
    for option in fields(options):
        if option.name not in WITHOUT_EFFECT:
            yield f"{option.name}={getattr(options, option.name)!r}"
    yield software()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@lru_cache(maxsize=1)
def software() -> str:
    """The quantizer's sources and what calibration runs on."""
    package = Path(__file__).resolve().parent.parent
    rooms = ("quantize", "integer", "qat")
    sources = sorted(path for room in rooms for path in package.glob(f"{room}/**/*.py"))
    versions = [onnxruntime.__version__, np.__version__, _version("torch")]
    return content_key([*versions, *(path.read_bytes() for path in sources)])
