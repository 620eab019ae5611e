"""Two models on the same input: the first op whose output differs, by how much, and the SQNR of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.errors import DataError, UsageError
from edgeq.evaluate.dataset import load_dataset
from edgeq.evaluate.dump import SUFFIX as DUMP
from edgeq.evaluate.dump import dumped_values, load_dump, samples_of
from edgeq.evaluate.models import IntegerModel, Model, open_model
from edgeq.evaluate.signal import agreement, largest_difference, sqnr
from edgeq.evaluate.trace import Value, trace
from edgeq.integer.shown import FORMS

DEFAULT_SAMPLES = 8


@dataclass(frozen=True)
class Difference:
    """One tensor that both models have.

    Attributes:
        tensor: its name. node, op: what makes it in the first model.
        exact: whether integers were compared (else real numbers).
        differing, size: elements that differ, and all.
        largest: of |a − b|, in steps where exact, else in the tensor's unit.
        sqnr: of b against a, dB.
        form: how the op rounds, where it does.
    """

    tensor: str
    node: str
    op: str
    exact: bool
    differing: int
    size: int
    largest: float
    sqnr: float
    form: str = ""


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes:
        a, b: the files; kind_a, kind_b: what they are.
        samples: how many were run.
        layers: tensors of both, in the first model's execution order.
        first: the first that differs; None if all are equal.
        worst: the one that loses most SQNR against the one before it; None where nothing is lost.
        agreement: top-1 agreement of the first output, None where there is nothing to choose from.
        outputs: the model outputs among the layers.
        explanations: roundings that would give b's values at the first difference; only against an integer graph.
    """

    a: str
    b: str
    kind_a: str
    kind_b: str
    samples: int
    layers: list[Difference]
    first: Difference | None
    worst: Difference | None
    agreement: float | None
    outputs: list[Difference]
    explanations: list[str]

    @property
    def equal(self) -> bool:
        """Whether no compared value differs."""
        return self.first is None


def compare(a: str | Path, b: str | Path, data: str | Path, *, samples: int = DEFAULT_SAMPLES) -> Comparison:
    """Compare two models tensor by tensor.

    Tensors are matched by name; outputs also by position. Integers with the same scale and zero point are compared
    exactly, everything else as real numbers. An artifact shows its outputs, and all its values if it was compiled with
    debug outputs.

    Args:
        a: the one to trust: float model, integer graph or artifact.
        b: the other, or an .npz with what a device computed: arrays [n, …] by tensor name.
        data: .npz or .npy with inputs, n samples along the first axis.
        samples: use at most this many.

    Raises:
        UsageError: the models have no tensor in common. DataError: the data doesn't fit.
    """
    first = open_model(a)
    if Path(b).suffix == DUMP:
        kind_b, count, values_a, values_b = _against_dump(first, Path(b), data, samples)
    else:
        second = open_model(b)
        kind_b = second.kind
        count, values_a, values_b = _against_model(first, second, data, samples)
    layers = [
        difference(va, values_b[name])
        for name, va in values_a.items()
        if name in values_b and va.real.shape == values_b[name].real.shape
    ]
    if not layers:
        raise UsageError(
            "the two have no tensor in common",
            where=f"{a}, {b}",
            why="neither names nor outputs match",
            hint="compare a model with what was made from it",
        )
    names = {p.name for p in first.outputs}
    top = first.outputs[0].name
    outputs_agree = agreement(values_a[top].real, values_b[top].real) if top in values_a and top in values_b else None
    parting = next((d for d in layers if d.differing), None)
    return Comparison(
        str(a),
        str(b),
        first.kind,
        kind_b,
        count,
        layers,
        parting,
        steepest(layers),
        outputs_agree,
        [d for d in layers if d.tensor in names],
        _explanations(first, values_a, values_b, parting),
    )


_Values = dict[str, Value]


def _against_model(first: Model, second: Model, data: str | Path, samples: int) -> tuple[int, _Values, _Values]:
    """Both models' values on the same inputs."""
    dataset = load_dataset(data, first.inputs, limit=samples)
    inputs = dict(dataset.inputs)
    renamed = {q.name: inputs[p.name] for p, q in zip(first.inputs, second.inputs, strict=False)}
    if len(renamed) != len(first.inputs) or len(second.inputs) != len(first.inputs):
        raise UsageError("the two models take different inputs", where=f"{first.path}, {second.path}")
    values_a = {v.name: v for v in trace(first, inputs)}
    values_b = {v.name: v for v in trace(second, renamed)}
    for p, q in zip(first.outputs, second.outputs, strict=False):
        if p.name not in values_b and q.name in values_b:
            values_b[p.name] = values_b[q.name]
    return len(dataset), values_a, values_b


def _against_dump(first: Model, path: Path, data: str | Path, samples: int) -> tuple[str, int, _Values, _Values]:
    """The model's values on as many samples as a device's dump has."""
    arrays = load_dump(path)
    count = samples_of(arrays)
    dataset = load_dataset(data, first.inputs, limit=min(count, samples))
    if len(dataset) < min(count, samples):
        raise DataError(
            "the dump has more samples than the inputs",
            where=f"{path}, {data}",
            why=f"{count} against {len(dataset)}",
            hint="give the inputs that the device was given",
        )
    reference = trace(first, dict(dataset.inputs))
    cut = {name: array[: len(dataset)] for name, array in arrays.items()}
    return "dump", len(dataset), {v.name: v for v in reference}, dumped_values(cut, reference, str(path))


def _explanations(first: Model, values_a: _Values, values_b: _Values, parting: Difference | None) -> list[str]:
    """Roundings that would explain the first difference; the graph has to be at hand."""
    if parting is None or not parting.exact or not isinstance(first, IntegerModel):
        return []
    from edgeq.evaluate.rounding import explain

    other = values_b[parting.tensor].raw
    return [] if other is None else explain(first.graph, values_a, parting.tensor, other)


def difference(a: Value, b: Value) -> Difference:
    """How far b is from a, exactly where both are integers of one scale."""
    exact = a.raw is not None and b.raw is not None and (a.scale, a.zero_point) == (b.scale, b.zero_point)
    left, right = (a.raw, b.raw) if exact else (a.real, b.real)
    assert left is not None
    assert right is not None
    return Difference(
        a.name,
        a.node,
        a.op,
        exact,
        int(np.count_nonzero(left != right)),
        int(left.size),
        largest_difference(left, right),
        sqnr(a.real, b.real),
        FORMS.get(a.op, ""),
    )


def steepest(layers: list[Difference]) -> Difference | None:
    """The layer with the largest loss of SQNR against the best of those before it."""
    worst, loss, best = None, 0.0, math.inf
    for layer in layers:
        if math.isfinite(layer.sqnr):
            before = best if math.isfinite(best) else layer.sqnr
            if before - layer.sqnr > loss:
                worst, loss = layer, before - layer.sqnr
            best = layer.sqnr
    return worst
