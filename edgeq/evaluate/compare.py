"""Two models on the same input: the first op whose output differs, by how much, and the SQNR of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeq.errors import UsageError
from edgeq.evaluate.dataset import load_dataset
from edgeq.evaluate.models import open_model
from edgeq.evaluate.signal import agreement, largest_difference, sqnr
from edgeq.evaluate.trace import Value, trace

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
    """

    tensor: str
    node: str
    op: str
    exact: bool
    differing: int
    size: int
    largest: float
    sqnr: float


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

    @property
    def equal(self) -> bool:
        """Whether no compared value differs."""
        return self.first is None


def compare(a: str | Path, b: str | Path, data: str | Path, *, samples: int = DEFAULT_SAMPLES) -> Comparison:
    """Compare two models tensor by tensor.

    Tensors are matched by name; outputs also by position. Integers with the same scale and zero point are compared
    exactly, everything else as real numbers. An artifact shows its outputs only.

    Args:
        a: the one to trust: float model, integer graph or artifact.
        b: the other.
        data: .npz or .npy with inputs, n samples along the first axis.
        samples: use at most this many.

    Raises:
        UsageError: the models have no tensor in common. DataError: the data doesn't fit.
    """
    first, second = open_model(a), open_model(b)
    dataset = load_dataset(data, first.inputs, limit=samples)
    inputs = dict(dataset.inputs)
    renamed = {q.name: inputs[p.name] for p, q in zip(first.inputs, second.inputs, strict=False)}
    if len(renamed) != len(first.inputs) or len(second.inputs) != len(first.inputs):
        raise UsageError("the two models take different inputs", where=f"{a}, {b}")
    values_a = {v.name: v for v in trace(first, inputs)}
    values_b = {v.name: v for v in trace(second, renamed)}
    for p, q in zip(first.outputs, second.outputs, strict=False):
        if p.name not in values_b and q.name in values_b:
            values_b[p.name] = values_b[q.name]
    layers = [
        difference(va, values_b[name])
        for name, va in values_a.items()
        if name in values_b and va.real.shape == values_b[name].real.shape
    ]
    if not layers:
        raise UsageError(
            "the two models have no tensor in common",
            where=f"{a}, {b}",
            why="neither names nor outputs match",
            hint="compare a model with what was made from it",
        )
    names = {p.name for p in first.outputs}
    top = first.outputs[0].name
    outputs_agree = agreement(values_a[top].real, values_b[top].real) if top in values_a and top in values_b else None
    return Comparison(
        str(a),
        str(b),
        first.kind,
        second.kind,
        len(dataset),
        layers,
        next((d for d in layers if d.differing), None),
        steepest(layers),
        outputs_agree,
        [d for d in layers if d.tensor in names],
    )


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
