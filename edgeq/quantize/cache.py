"""Quantizations that were made before: the same float graph, data and options give the same integer graph.

Calibration and the search for s16 tensors take seconds; a second compile of an unchanged model must not pay again.
The key covers everything the result depends on, the quantizer's own sources included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import lru_cache
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
from edgeq.quantize.data import CalibrationData
from edgeq.quantize.pipeline import QuantizeOptions, QuantizeResult
from edgeq.quantize.report import QuantizeReport

# Options that change how the work is done, not what comes out.
WITHOUT_EFFECT = ("threads", "progress")
FOLDER = "quantized"


def cached(
    graph: FloatGraph,
    data: CalibrationData,
    options: QuantizeOptions,
    compute: Callable[[FloatGraph, CalibrationData, QuantizeOptions], QuantizeResult],
) -> QuantizeResult:
    """The result of `compute`, from the cache where it was computed before.

    A damaged entry counts as absent: it is computed and written again.
    """
    folder = cache_dir(FOLDER, content_key(_key(graph, data, options)))
    model, report = folder / "graph.onnx", folder / "report.json"
    found = _read(model, report)
    if found is not None:
        return found
    result = compute(graph, data, options)
    with atomic_path(model) as scratch:
        result.graph.save(scratch)
    with atomic_path(report) as scratch:
        scratch.write_text(json.dumps(result.report.as_dict()), encoding="utf-8")
    return result


def _read(model: Path, report: Path) -> QuantizeResult | None:
    if not (model.is_file() and report.is_file()):
        return None
    try:
        found = TypeAdapter(QuantizeReport).validate_json(report.read_text(encoding="utf-8"))
        return QuantizeResult(IntegerGraph.load(model), found)
    except (ValidationError, ModelError, UnicodeDecodeError):
        return None


def _key(graph: FloatGraph, data: CalibrationData, options: QuantizeOptions) -> Iterator[bytes | str]:
    yield ir.to_proto(graph.model).SerializeToString(deterministic=True)
    yield repr((data.specs, data.source, data.calibrated, data.warnings))
    for name, array in sorted(data.arrays.items()):
        yield f"{name} {array.dtype} {array.shape}"
        yield np.ascontiguousarray(array).tobytes()
    for option in fields(options):
        if option.name not in WITHOUT_EFFECT:
            yield f"{option.name}={getattr(options, option.name)!r}"
    yield software()


@lru_cache(maxsize=1)
def software() -> str:
    """The quantizer's sources and what calibration runs on."""
    package = Path(__file__).resolve().parent.parent
    sources = sorted([*package.glob("quantize/**/*.py"), *package.glob("integer/**/*.py")])
    return content_key([onnxruntime.__version__, np.__version__, *(path.read_bytes() for path in sources)])
