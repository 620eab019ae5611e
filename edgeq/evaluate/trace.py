"""Every value that a model computes, by name: what per-layer comparison works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.evaluate.models import ArtifactModel, FloatModel, IntegerModel, Model, first_line, in_batches, scale_of

Array = NDArray[Any]
#: Key of an artifact's manifest: which values it shows besides its outputs.
DEBUG_OUTPUTS = "debug_outputs"


@dataclass(frozen=True)
class Value:
    """One tensor over all samples.

    Attributes:
        name: of the tensor.
        node, op: what made it; for an artifact's outputs the artifact itself.
        real: float [n, …], dequantized where it is an integer.
        raw: the integers themselves, None for floats.
        scale, zero_point: of the integers.
    """

    name: str
    node: str
    op: str
    real: Array
    raw: Array | None = None
    scale: float = 1.0
    zero_point: int = 0


def trace(model: Model, samples: Mapping[str, Array]) -> list[Value]:
    """Values in execution order: all of them for float models and integer graphs, the outputs for artifacts,
    which are all values where one was compiled with debug outputs.

    Args:
        model: from `open_model`.
        samples: input name → float32 [n, …].
    """
    if isinstance(model, FloatModel):
        return _trace_float(model, samples)
    if isinstance(model, IntegerModel):
        return _trace_integer(model, samples)
    assert isinstance(model, ArtifactModel)
    return _trace_artifact(model, samples)


def _trace_float(model: FloatModel, samples: Mapping[str, Array]) -> list[Value]:
    import onnx
    import onnxruntime

    proto = onnx.load(str(model.path))
    produced = {o: node for node in proto.graph.node if node.op_type != "Constant" for o in node.output if o}
    known = {o.name for o in proto.graph.output}
    for name in produced:
        if name not in known:
            proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Optimizing would fuse away the values that are asked for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ModelError("can't look inside the model", where=str(model.path), why=first_line(error)) from error
    names = list(produced)
    values = in_batches(model.inputs, samples, lambda feeds: dict(zip(names, session.run(names, feeds), strict=True)))
    numeric = (name for name in names if values[name].dtype.kind in "fiu")
    return [Value(n, produced[n].name or n, produced[n].op_type, values[n]) for n in numeric]


def _trace_integer(model: IntegerModel, samples: Mapping[str, Array]) -> list[Value]:
    from edgeq.integer import reference

    graph = model.graph

    def once(batch: dict[str, Array]) -> dict[str, Array]:
        return dict(reference.run(graph, model.quantized(batch), keep=True))

    raw = in_batches(model.inputs, samples, once)
    values = []
    for node in graph.model.graph:
        for out in node.outputs:
            if out.name in raw:
                values.append(_integer(out.name, node.name or out.name, node.op_type, raw[out.name], *scale_of(out)))
    return values


def _trace_artifact(model: ArtifactModel, samples: Mapping[str, Array]) -> list[Value]:
    raw = model.run_raw(samples)
    file = Path(model.path).name
    made = _values_listed(model)
    outputs = sorted(model.model.outputs, key=lambda t: made[t.name][0] if t.name in made else len(made))
    return [
        _integer(t.name, *made.get(t.name, (0, file, "artifact"))[1:], raw[t.name], t.scale, t.zero_point)
        for t in outputs
    ]


def _values_listed(model: ArtifactModel) -> dict[str, tuple[int, str, str]]:
    """Of an artifact with debug outputs: name → (position, node, op), as its manifest has them."""
    listed = model.model.manifest.get(DEBUG_OUTPUTS, [])
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return {str(row.get("name")): (place, str(row.get("node")), str(row.get("op"))) for place, row in enumerate(rows)}


def _integer(name: str, node: str, op: str, raw: Array, scale: float, zero_point: int) -> Value:
    real = (raw.astype(np.float64) - zero_point) * scale
    return Value(name, node, op, real, raw, scale, zero_point)
