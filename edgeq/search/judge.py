"""How good outputs are: a metric on labelled data, or closeness to the float model where there are no labels.

Without labels the float model's own choices stand for them; with the metric `divergence` its outputs do, which tells
more policies apart on few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError

if TYPE_CHECKING:
    from edgeq.evaluate.dataset import Dataset

Array = NDArray[Any]
DIVERGENCE = "divergence"
#: Outputs of a softmax are taken for no less than this: 8 bits hold no smaller ones.
_LEAST_CHANCE = 1e-3
#: Fewest samples that a judgement is worth anything on.
FEWEST_SAMPLES = 16


@dataclass(frozen=True)
class Scorer:
    """A metric by its name, so that it can travel to other processes: higher is better.

    Attributes:
        metric: of `edgeq eval`, or divergence. classes: the outputs are logits or probabilities.
    """

    metric: str
    classes: bool = False

    def __call__(self, outputs: Array, labels: Array, inputs: Array) -> float:
        """Value of outputs [n, …]."""
        if self.metric == DIVERGENCE:
            return -divergence_of(labels, outputs, self.classes)
        from edgeq.evaluate.metrics import apply_metric, load_metric

        value = apply_metric(load_metric(self.metric), outputs, labels, inputs)
        number = float(next(iter(value.values())) if isinstance(value, Mapping) else value)
        return -number if self.metric == "mse" else number


@dataclass(frozen=True)
class Judge:
    """How good outputs are.

    Attributes:
        scorer: (outputs [n, …], labels, inputs) → value, higher is better.
        dataset: samples and labels. reference: the float model's value. is_fraction: the value is one of 0 … 1.
        has_labels: False: the float model's own answers stand for labels.
    """

    scorer: Scorer
    dataset: Dataset
    reference: float
    is_fraction: bool
    has_labels: bool

    def score(self, path: Path, threads: int) -> float:
        """Value of an artifact's outputs."""
        from edgeq.evaluate.models import ArtifactModel

        outputs = next(iter(ArtifactModel(path, threads).run(self.dataset.inputs).values()))
        assert self.dataset.labels is not None
        return self.scorer(outputs, self.dataset.labels, next(iter(self.dataset.inputs.values())))


def divergence_of(reference: Array, outputs: Array, classes: bool) -> float:
    """Of outputs [n, …] from the float model's, in nats."""
    from edgeq.quantize.error.divergence import divergence

    pair = [np.asarray(array, np.float64).reshape(len(array), -1) for array in (reference, outputs)]
    if classes and pair[0].min() >= 0 and np.allclose(pair[0].sum(axis=1), 1, atol=0.01):
        pair = [np.log(np.maximum(array, _LEAST_CHANCE)) for array in pair]
    return divergence([[pair[0]]], [[pair[1]]], [classes])


def make_judge(
    model: str | Path,
    data: str | Path,
    metric: str,
    samples: int | None,
    preprocess: str | None,
    classes: bool = False,
) -> Judge:
    """Labelled data with a metric; without labels the float model's own choices are the labels.

    Args:
        model: float. data: with labels or without. metric: of `edgeq eval`, or divergence from the float model.
        samples: at most this many. preprocess: of images. classes: the outputs are logits or probabilities.

    Raises:
        DataError: too few samples, or no labels and outputs that choose nothing.
    """
    from edgeq.evaluate.dataset import Dataset, load_dataset
    from edgeq.evaluate.metrics import FRACTIONS, load_metric
    from edgeq.evaluate.models import open_model

    if metric != DIVERGENCE:
        load_metric(metric)  # an unknown one is refused before anything runs
    reference = open_model(model, threads=4)
    dataset = load_dataset(data, reference.inputs, limit=samples, preprocess=preprocess)
    if len(dataset) < FEWEST_SAMPLES:
        raise DataError(
            "too few samples to judge accuracy",
            where=str(data),
            why=f"{len(dataset)} samples",
            hint=f"give at least {FEWEST_SAMPLES}, better hundreds, with --eval",
        )
    outputs = next(iter(reference.run(dataset.inputs).values()))
    has_labels = dataset.labels is not None and metric != DIVERGENCE
    if metric == DIVERGENCE:
        dataset = Dataset(dataset.inputs, outputs)
    elif not has_labels:
        flat = outputs.reshape(len(outputs), -1)
        if metric != "top1" or flat.shape[1] < 2:
            raise DataError(
                "the data has no labels",
                where=str(data),
                why=f"{metric} needs them" if metric != "top1" else "the outputs are no classes",
                hint="put the labels into the .npz as y, or give --eval",
            )
        dataset = Dataset(dataset.inputs, np.argmax(flat, axis=1))
    scorer = Scorer(metric, classes)
    assert dataset.labels is not None
    value = scorer(outputs, dataset.labels, next(iter(dataset.inputs.values())))
    return Judge(scorer, dataset, value, metric in FRACTIONS, has_labels)
