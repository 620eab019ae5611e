"""First half of a measurement: the integer graph of a model under a policy, its accuracy, its bits, its layers."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, UsageError
from edgeq.report.results import GraphFacts, Node
from edgeq.report.suite import ModelCase

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeq.evaluate.dataset import Dataset
    from edgeq.evaluate.models import IntegerModel
    from edgeq.integer import IntegerGraph

Array = NDArray[Any]
# Samples whose every intermediate value goes into the digests; the outputs of all samples do anyway.
TRACED = 2
# Samples whose layers are compared with the float model.
COMPARED = 8
NO_NOISE = 999.0
# The rewriter that the front end stands on keeps state between calls: two models at once confuse it. Calibration has
# threads of its own, so little is lost.
_QUANTIZER = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A model under a policy; paths are complete.

    Attributes:
        model, policy: names in the suite. case: the model's entry.
        folder: of the suite file. policy_file: None for the default policy.
        agreement: samples for `agreement.npz`.
    """

    model: str
    policy: str
    case: ModelCase
    folder: Path
    policy_file: Path | None
    agreement: int

    def path(self, name: str) -> Path:
        """A path of the suite file."""
        return self.folder / name

    def files(self) -> list[Path]:
        """Everything on disk that the result depends on.

        Raises:
            UsageError: one of them isn't there.
        """
        case = self.case
        named = {"path": case.path, "data": case.data, "calib": case.calib, "preprocess": case.preprocess}
        found = []
        for key, name in named.items():
            if name is None or (key == "calib" and name == "random"):
                continue
            file = self.path(name)
            if file.exists():
                found.append(file)
            elif key != "preprocess":  # which may be the text itself
                raise UsageError(
                    "the suite names a file that isn't there",
                    where=f"models.{self.model}.{key}",
                    why=str(file),
                    hint="paths are relative to the suite file",
                )
        if case.metric and ":" in case.metric:
            found.append(self.path(case.metric.rpartition(":")[0]))
        if self.policy_file is not None:
            if not self.policy_file.is_file():
                raise UsageError(
                    "the suite names a file that isn't there",
                    where=f"policies.{self.policy}",
                    why=str(self.policy_file),
                )
            found.append(self.policy_file)
        return found


def measure_graph(job: Job, folder: Path) -> GraphFacts:
    """Quantize (float models), score and trace.

    Args:
        job: what to do.
        folder: gets `graph.int.onnx` and `agreement.npz`: integers of some samples and what must come out, as
            `in:<input>` and `out:<output>`, [n, …].

    Raises:
        EdgeqError: model, data or policy don't fit; see `edgeq.quantize` and `edgeq.evaluate`.
    """
    from edgeq.evaluate.dataset import load_dataset
    from edgeq.evaluate.models import IntegerModel, kind_of

    source, saved = job.path(job.case.path), folder / "graph.int.onnx"
    is_float = kind_of(source) == "float model"
    with _QUANTIZER:
        graph = _integer_graph(job, source, is_float)
    graph.save(saved)
    model = IntegerModel(saved, 1)
    data = load_dataset(job.path(job.case.data), model.inputs, limit=job.case.samples, preprocess=_preprocess(job))
    outputs = model.run(data.inputs)
    _save_agreement(model, data.inputs, job.agreement, folder / "agreement.npz")
    facts = GraphFacts(
        model=job.model,
        policy=job.policy,
        metric=job.case.metric,
        accuracy=_score(job, outputs[model.outputs[0].name], data),
        samples=len(data),
        outputs=digest(*(outputs[p.name] for p in model.outputs)),
        calibrated=graph.calibrated,
        nodes=describe_nodes(graph, _traced(model, data.inputs)),
    )
    if is_float:
        _against_float(job, source, model, outputs[model.outputs[0].name], data, facts)
    return facts


def _integer_graph(job: Job, source: Path, is_float: bool) -> IntegerGraph:
    import edgeq
    from edgeq.integer import IntegerGraph

    case = job.case
    if not is_float:
        if case.calib is not None or job.policy_file is not None:
            raise UsageError(
                "an integer graph is already quantized",
                where=f"models.{job.model}",
                why="calibration data and policies change float models only",
                hint="leave out calib, and name in its `policies` only one without a file",
            )
        return IntegerGraph.load(source)
    if case.calib is None:
        raise UsageError(
            "a float model needs calibration data",
            where=f"models.{job.model}.calib",
            hint="give a path, or `random` for sizes and instructions alone",
        )
    calib = case.calib if case.calib == "random" else str(job.path(case.calib))
    return edgeq.quantize(
        source,
        calib,
        observer=case.observer,
        policy=job.policy_file,
        samples=case.calib_samples,
        preprocess=_preprocess(job),
        batch=case.batch,
        shapes=case.shapes,
        seed=case.seed,
    ).graph


def _preprocess(job: Job) -> str | None:
    given = job.case.preprocess
    if given is None:
        return None
    return str(job.path(given)) if job.path(given).is_file() else given


def _score(job: Job, outputs: Array, data: Dataset) -> float | None:
    from edgeq.evaluate.metrics import apply_metric, load_metric

    if job.case.metric is None:
        return None
    if data.labels is None:
        raise DataError(
            "the data has no labels",
            where=f"models.{job.model}.data",
            why=f"metric {job.case.metric} needs an array y",
            hint="put the labels into the .npz as y, or set `metric: null`",
        )
    name = job.case.metric
    function = load_metric(str(job.path(name)) if ":" in name else name)
    value = apply_metric(function, outputs, data.labels, next(iter(data.inputs.values())))
    if isinstance(value, Mapping):
        raise DataError(
            "the suite needs a metric of one number",
            where=f"models.{job.model}.metric",
            why=f"{name} gives {', '.join(value)}",
        )
    return value


def _against_float(
    job: Job, source: Path, model: IntegerModel, outputs: Array, data: Dataset, facts: GraphFacts
) -> None:
    """Accuracy of the float model on the same samples, SQNR of the output and of every layer that both have."""
    from edgeq.evaluate.dataset import Dataset as Samples
    from edgeq.evaluate.models import FloatModel
    from edgeq.evaluate.signal import sqnr
    from edgeq.evaluate.trace import trace

    reference = FloatModel(source, 1)
    names = dict(zip((p.name for p in model.inputs), (p.name for p in reference.inputs), strict=True))
    samples = {names[name]: x for name, x in data.inputs.items()}
    expected = reference.run(samples)[reference.outputs[0].name]
    facts.float_accuracy = _score(job, expected, Samples(samples, data.labels))
    facts.sqnr = _finite(sqnr(expected, outputs.reshape(expected.shape)))
    few = {name: x[:COMPARED] for name, x in data.inputs.items()}
    floats = {v.name: v.real for v in trace(reference, {names[name]: x for name, x in few.items()})}
    values = trace(model, few)
    position = {id(node): index for index, node in enumerate(n for n in model.graph.model.graph)}
    by_output = {out.name: facts.nodes[position[id(node)]] for node in model.graph.model.graph for out in node.outputs}
    for value in values:
        real = floats.get(value.name)
        if real is not None and real.size == value.real.size and real.dtype.kind == "f":
            by_output[value.name].sqnr = _finite(sqnr(real, value.real.reshape(real.shape)))


def _finite(ratio: float) -> float:
    """A ratio in dB that JSON can hold, to a thousandth: libraries differ in the last digits of a sum."""
    return round(min(max(ratio, -NO_NOISE), NO_NOISE), 3) if not math.isnan(ratio) else -NO_NOISE


def _save_agreement(model: IntegerModel, inputs: Mapping[str, Array], count: int, path: Path) -> None:
    from edgeq.evaluate.models import in_batches

    few = {name: x[:count] for name, x in inputs.items()}
    integers = in_batches(model.inputs, few, model.quantized)
    expected = in_batches(model.inputs, integers, lambda feeds: dict(model.session.run(feeds)))
    arrays = {f"in:{name}": x for name, x in integers.items()}
    arrays |= {f"out:{port.name}": expected[port.name] for port in model.outputs}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _traced(model: IntegerModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
    from edgeq.evaluate.trace import trace

    values = trace(model, {name: x[:TRACED] for name, x in inputs.items()})
    return {v.name: v.raw for v in values if v.raw is not None}


def describe_nodes(graph: IntegerGraph, values: Mapping[str, Array]) -> list[Node]:
    """What each node is and computes, in digests that can be compared with another version's.

    Args:
        graph: the integer graph.
        values: value name → what it was for the traced samples.
    """
    from edgeq.evaluate.describe import layers_of

    layers = layers_of(graph.model)
    nodes = [node for node in graph.model.graph if node.op_type != "Constant"]
    return [
        Node(
            name=layer.name,
            op=node.op_type,
            attributes=_attributes(node),
            constants=digest(
                *(v.const_value.numpy() for v in node.inputs if v is not None and v.const_value is not None)
            ),
            weight_bits=layer.weight_bits,
            output=digest(*(values[o.name] for o in node.outputs if o.name in values)),
        )
        for node, layer in zip(nodes, layers, strict=True)
    ]


def _attributes(node: ir.Node) -> str:
    text = ";".join(f"{name}={attribute.value!r}" for name, attribute in sorted(node.attributes.items()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def digest(*arrays: Array) -> str:
    """BLAKE2b-64 of shapes, dtypes and values, hex."""
    state = hashlib.blake2b(digest_size=8)
    for array in arrays:
        dense = np.ascontiguousarray(array)
        state.update(f"{dense.dtype.str}{dense.shape}".encode())
        state.update(dense.tobytes())
    return state.hexdigest()
