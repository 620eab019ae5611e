"""What quantization did, for people and machines: plain values only, so that `json.dumps` takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.integer import oracle
from edgeq.integer.arithmetic import dequantize, quantize
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize.calibrate import Progress
from edgeq.quantize.integerize import Integerized
from edgeq.quantize.plan import Plan
from edgeq.quantize.promote import Promotion
from edgeq.quantize.samples.data import CalibrationData
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import is_float, name_of

Array = NDArray[Any]

#: A signal-to-noise ratio reported where there is no noise at all.
NO_NOISE = 999.0


@dataclass(frozen=True)
class LayerReport:
    """One layer of the integer graph.

    Attributes:
        name, op: of the float graph. output: its (first) value.
        dtype, scale, zero_point: of the output. low, high: the range it covers, real units.
        reason: why the type: default, promoted, softmax, policy, model.
        weight_bits, weights: of layers with constant weights: bits and number.
        requantize: narrow or single. nonlinear: table, interp or exp2.
    """

    name: str
    op: str
    output: str
    dtype: str
    scale: float
    zero_point: int
    low: float
    high: float
    reason: str
    weight_bits: int | None = None
    weights: int = 0
    weight_scale: str | None = None
    requantize: str | None = None
    nonlinear: str | None = None


@dataclass(frozen=True)
class OutputReport:
    """One output of the graph, integer against float on calibration samples.

    Attributes:
        sqnr_db: 10·log10 of signal power (mean removed) over error power; NO_NOISE if there is no error.
        top1_agreement: share of rows (last axis = classes) with the same largest entry, or of equal indices; None where
            the output is no vector of classes.
        dtype, scale, zero_point: of the integer output.
    """

    name: str
    dtype: str
    scale: float
    zero_point: int
    sqnr_db: float
    top1_agreement: float | None


@dataclass(frozen=True)
class StepReport:
    """One step of a recipe.

    Attributes:
        name: of the step. before, after: normalised squared error of the final output. kept: whether it was.
        seconds: wall time. note: why it could not be tried, where that is so.
    """

    name: str
    before: float
    after: float
    kept: bool
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class QuantizeReport:
    """Everything a person wants to know about a quantization.

    Attributes:
        calibrated: False if the data was random. samples, source: of the data. observer: default observer.
        layers: in order. outputs: quality on `compared` calibration samples, run through the integer graph itself.
        promoted: tensor names kept in s16 with the output error each causes alone in s8.
        promotion_error: normalised error of the final output from activations, (all s8, after promotion, budget).
        seconds: time per stage. warnings: what should not be overlooked.
        recipe: its name. steps: what it tried, with the final output's error before and after.
    """

    calibrated: bool
    samples: int
    source: str
    observer: str
    layers: list[LayerReport]
    outputs: list[OutputReport]
    compared: int
    promoted: dict[str, float] = field(default_factory=dict)
    promotion_error: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    recipe: str = "fast"
    steps: list[StepReport] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return asdict(self)


def layer_reports(plan: Plan, built: Integerized) -> list[LayerReport]:
    """One entry per layer with a quantized output."""
    reports = []
    for layer in plan.topology.layers:
        if not is_float(layer.output):
            continue
        tensor = plan.tensor(name_of(layer.output))
        reports.append(
            LayerReport(
                layer.name,
                layer.op,
                name_of(layer.output),
                tensor.quant.dtype.name,
                tensor.quant.scale,
                tensor.quant.zero_point,
                tensor.low,
                tensor.high,
                tensor.reason,
                **built.layers.get(layer.name, {}),
            )
        )
    return reports


def compare_outputs(
    plan: Plan,
    graph: IntegerGraph,
    data: CalibrationData,
    samples: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[OutputReport]:
    """Run float and integer graph on the same samples and compare what comes out.

    The integer graph runs in ONNX Runtime, bit-exact with every other executor.

    Args:
        plan: what the graph was made from. graph: the integer graph.
        data: calibration data. samples: how many of it, spread evenly.
        threads: samples run at a time. progress: called with (stage, done, total).
    """
    names = [name_of(value) for value in plan.topology.graph.outputs]
    session = Session(model_with_outputs(plan.topology.model, ()), names)
    integer = oracle.Session(graph, threads=1)

    def run(feeds: dict[str, Array]) -> tuple[list[Array], dict[str, Array]]:
        return session.run(feeds), integer.run(quantize_inputs(graph, feeds))

    pairs = []
    for pair in map_ordered(run, data.feeds(samples), threads):
        pairs.append(pair)
        if progress:
            progress("compare", len(pairs), samples)
    reports = []
    for position, name in enumerate(names):
        quant = graph.quant(name)
        reference = [floats[position] for floats, _ in pairs]
        real = [dequantize(integers[name], quant.scale, quant.zero_point) for _, integers in pairs]
        reports.append(
            OutputReport(
                name, quant.dtype.name, quant.scale, quant.zero_point, sqnr(reference, real), agreement(reference, real)
            )
        )
    return reports


def quantize_inputs(graph: IntegerGraph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Float inputs as the integers the graph takes; integer inputs pass through."""
    result = {}
    for name, array in feeds.items():
        quant = graph.quant(name)
        if array.dtype.kind == "f":
            result[name] = quantize(array, quant.scale, quant.zero_point, quant.dtype)
        else:
            result[name] = array
    return result


def sqnr(reference: Sequence[Array], values: Sequence[Array]) -> float:
    """Signal-to-quantization-noise ratio in dB over all samples."""
    ref = np.concatenate([array.reshape(-1) for array in reference]).astype(np.float64)
    noise = ref - np.concatenate([array.reshape(-1) for array in values]).astype(np.float64)
    signal, error = float(np.sum((ref - ref.mean()) ** 2)), float(np.sum(noise**2))
    if error == 0:
        return NO_NOISE
    return 10 * math.log10(signal / error) if signal > 0 else -NO_NOISE


def agreement(reference: Sequence[Array], values: Sequence[Array]) -> float | None:
    """Share of rows whose largest entry is the same (a tie of integers counts if the float's winner is in it), or, of
    integer outputs such as ArgMax's, the share of equal entries."""
    first = reference[0]
    if first.dtype.kind in "iu":
        return float(np.mean(np.concatenate([(r == v).reshape(-1) for r, v in zip(reference, values, strict=True)])))
    if first.ndim < 1 or first.shape[-1] < 2 or math.prod(first.shape[1:-1]) != 1:
        return None
    hits = [
        np.take_along_axis(val, ref.argmax(-1, keepdims=True), -1)[..., 0] >= val.max(-1)
        for ref, val in zip(reference, values, strict=True)
    ]
    return float(np.mean(np.concatenate([hit.reshape(-1) for hit in hits])))


def promoted_tensors(plan: Plan, promotion: Promotion) -> dict[str, float]:
    """Promoted values with the error each group causes alone."""
    groups = plan.ties.types.groups()
    return {
        name: error
        for group, error in promotion.groups.items()
        for name in groups.get(group, [])
        if plan.ties.is_root(name)
    }
