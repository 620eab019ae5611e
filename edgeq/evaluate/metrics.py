"""Metrics of `edgeq eval`: functions of (outputs, labels) that give one number."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, UsageError

Array = NDArray[Any]
MetricFunction = Callable[..., Any]


def top_k(outputs: Array, labels: Array, k: int) -> float:
    """Fraction of samples whose label is among the k largest outputs.

    Equal outputs count in the order of their index, as `argmax` does: ties give no advantage.

    Args:
        outputs: [n, classes] scores (further axes of size 1 are dropped).
        labels: [n] class indices.
    """
    scores = np.asarray(outputs).reshape(len(outputs), -1)
    classes = _labels(labels, len(scores))
    if scores.shape[1] <= classes.max(initial=0) or classes.min(initial=0) < 0:
        raise DataError(
            "a label is outside the model's classes",
            why=f"labels reach from {classes.min()} to {classes.max()}, the output has {scores.shape[1]} values",
            hint="check that y holds class indices that start where the model's outputs start",
        )
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    return float(np.mean((order == classes[:, None]).any(axis=1)))


def top1(outputs: Array, labels: Array) -> float:
    """Top-1 accuracy, 0…1."""
    return top_k(outputs, labels, 1)


def top5(outputs: Array, labels: Array) -> float:
    """Top-5 accuracy, 0…1."""
    return top_k(outputs, labels, 5)


def auc(outputs: Array, labels: Array) -> float:
    """Area under the ROC curve of a binary decision (Mann-Whitney U with ties at their mean rank), 0…1.

    Args:
        outputs: [n] or [n, 1] scores of the positive class, or [n, 2] of which the last column is taken.
        labels: [n] of 0 and 1.
    """
    scores = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    if scores.shape[1] > 2:
        raise DataError(
            "auc needs one score a sample",
            why=f"the output has {scores.shape[1]} values a sample",
            hint="write the reduction as --metric path.py:function",
        )
    positive = _labels(labels, len(scores)) == 1
    count = int(positive.sum())
    if count in (0, len(scores)):
        raise DataError("auc needs samples of both classes", why=f"{count} of {len(scores)} labels are 1")
    rank = _mean_ranks(scores[:, -1])
    below = rank[positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(scores) - count)))


def mse(outputs: Array, labels: Array) -> float:
    """Mean squared error against y of the outputs' shape."""
    expected = np.asarray(labels, np.float64)
    found = np.asarray(outputs, np.float64)
    if expected.size != found.size:
        raise DataError(
            "mse needs one expected value for each output",
            why=f"y is {list(expected.shape)}, the outputs are {list(found.shape)}",
        )
    return float(np.mean((found.ravel() - expected.ravel()) ** 2))


METRICS: Mapping[str, MetricFunction] = {"top1": top1, "top5": top5, "auc": auc, "mse": mse}
FRACTIONS = frozenset({"top1", "top5"})
"""Metrics that people read in percent."""


def load_metric(name: str) -> MetricFunction:
    """A metric by name, or `path.py:function`, a function of (outputs, y) or (outputs, y, x).

    Raises:
        UsageError: unknown name, no such file or function, or the file fails to load.
    """
    if name in METRICS:
        return METRICS[name]
    path, separator, function = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise UsageError(
            f"unknown metric {name!r}",
            where="--metric",
            hint=f"one of {', '.join(METRICS)}, or path.py:function with function(outputs, y)",
        )
    if not Path(path).is_file():
        raise UsageError("no such metric file", where=path, hint="check the path in --metric path.py:function")
    spec = importlib.util.spec_from_file_location("edgeq_user_metric", path)
    if spec is None or spec.loader is None:
        raise UsageError("can't load the metric file", where=path, why="it is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UsageError("can't load the metric file", where=path, why=f"{type(error).__name__}: {error}") from error
    found: MetricFunction | None = getattr(module, function, None)
    if found is None or not callable(found):
        names = sorted(n for n, v in vars(module).items() if inspect.isfunction(v))
        raise UsageError(
            f"no function {function!r} in the metric file", where=path, hint=f"it has {', '.join(names) or 'none'}"
        )
    return found


def apply_metric(metric: MetricFunction, outputs: Array, labels: Array, inputs: Array) -> float | dict[str, float]:
    """The metric's value(s).

    A user's function that takes three arguments gets the inputs as well. It may give a number or a dict of numbers.

    Raises:
        DataError: the function raised, or gave something else.
    """
    arguments = (outputs, labels, inputs)[: 3 if _takes_inputs(metric) else 2]
    try:
        value = metric(*arguments)
        if isinstance(value, Mapping):
            return {str(k): float(v) for k, v in value.items()}
        return float(value)
    except DataError:
        raise
    except Exception as error:  # the user's code may raise anything
        name = getattr(metric, "__name__", repr(metric))
        raise DataError("the metric failed", where=name, why=f"{type(error).__name__}: {error}") from error


def _takes_inputs(metric: MetricFunction) -> bool:
    parameters = inspect.signature(metric).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 3 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _labels(labels: Array, count: int) -> NDArray[np.int64]:
    values = np.asarray(labels)
    if values.size != count:
        raise DataError(
            "labels and samples differ in number",
            why=f"y is {list(values.shape)} for {count} samples",
            hint="y needs one class index a sample",
        )
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise DataError("labels must be class indices", why=f"y has dtype {values.dtype} and fractions")
    return values.reshape(-1).astype(np.int64)


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return (last - (counts - 1) / 2)[inverse]
