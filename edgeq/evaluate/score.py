"""Score a model on labelled data, beside a reference if one is given."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError
from edgeq.evaluate.dataset import Dataset, load_dataset
from edgeq.evaluate.metrics import FRACTIONS, apply_metric, load_metric
from edgeq.evaluate.models import Model, open_model
from edgeq.evaluate.signal import agreement, sqnr

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """One model's result.

    Attributes:
        path, kind: the file and what it is.
        values: metric name → value.
        seconds: wall time of all runs.
    """

    path: str
    kind: str
    values: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        metric: as given.
        samples: how many were scored.
        score: of the model.
        reference: of the reference model, if there is one.
        agreement: fraction of samples on which both choose the same class, None without a reference or classes.
        sqnr: of the outputs against the reference's, dB.
    """

    metric: str
    samples: int
    score: Score
    reference: Score | None
    agreement: float | None
    sqnr: float | None

    @property
    def in_percent(self) -> bool:
        """Whether people read the metric as a percentage."""
        return self.metric in FRACTIONS


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    metric: str = "top1",
    reference: str | Path | None = None,
    output: str | None = None,
    samples: int | None = None,
    preprocess: str | None = None,
    threads: int = 1,
) -> Evaluation:
    """Score a model on data.

    Args:
        model: float model, integer graph or artifact; a foreign artifact runs under its emulator.
        data: .npz with the inputs (n samples along the first axis, float32) and labels `y`.
        metric: top1, top5, auc, mse, or `path.py:function`, a function of (outputs, y) or (outputs, y, x).
        reference: a second model, usually the float one, to compare with on the same samples.
        output: name of the output that is scored; the first by default.
        samples: use at most this many.
        preprocess: for images, as in calibration.
        threads: of the execution; results don't depend on it.

    Raises:
        DataError: the data doesn't fit the model or the metric. UsageError: unknown metric or file.
        ArtifactError, ToolError: the artifact can't be run here.
    """
    function = load_metric(metric)
    first = open_model(model, threads=threads)
    dataset = load_dataset(data, first.inputs, limit=samples, preprocess=preprocess)
    if dataset.labels is None:
        raise DataError(
            "the data has no labels",
            where=str(data),
            why="there is no array y",
            hint="put the labels into the .npz as y",
        )
    score, outputs = _score(first, dataset, function, metric, output)
    if reference is None:
        return Evaluation(metric, len(dataset), score, None, None, None)
    second = open_model(reference, threads=threads)
    other, expected = _score(second, _renamed(dataset, first, second), function, metric, None)
    return Evaluation(
        metric,
        len(dataset),
        score,
        other,
        agreement(expected, outputs),
        sqnr(expected, outputs.reshape(expected.shape)),
    )


def _score(model: Model, dataset: Dataset, function: Any, metric: str, output: str | None) -> tuple[Score, Array]:
    start = time.perf_counter()
    results = model.run(dataset.inputs)
    seconds = time.perf_counter() - start
    name = output or model.outputs[0].name
    if name not in results:
        raise DataError(
            f"the model has no output {name!r}", where=str(model.path), hint=f"it has {', '.join(sorted(results))}"
        )
    assert dataset.labels is not None
    value = apply_metric(function, results[name], dataset.labels, next(iter(dataset.inputs.values())))
    values = value if isinstance(value, dict) else {metric.rpartition(":")[2]: value}
    return Score(str(model.path), model.kind, values, seconds), np.asarray(results[name])


def _renamed(dataset: Dataset, first: Model, second: Model) -> Dataset:
    """The data under the second model's input names, matched by position."""
    if len(first.inputs) != len(second.inputs):
        raise DataError(
            "the two models take different inputs",
            where=str(second.path),
            why=f"{len(second.inputs)} inputs, the other has {len(first.inputs)}",
        )
    names = zip(first.inputs, second.inputs, strict=True)
    return Dataset({b.name: dataset.inputs[a.name] for a, b in names}, dataset.labels)
