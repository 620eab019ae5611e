"""The network to search: calibrated once, then made into integer graphs, artifacts and scores for many assignments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, UsageError
from edgeq.search.space import PACKED_FROM, Assignment, Form

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.evaluate.dataset import Dataset
    from edgeq.integer import IntegerGraph
    from edgeq.quantize.pipeline import Prepared
    from edgeq.quantize.policy import LayerPolicy
    from edgeq.search.rounding import Rounder

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]
#: Fewest samples that a judgement is worth anything on.
FEWEST_SAMPLES = 16


@dataclass(frozen=True)
class Judge:
    """How good outputs are.

    Attributes:
        metric: name. function: (outputs [n, …], labels, inputs) → value, higher is better.
        dataset: samples and labels. reference: the float model's value. is_fraction: the value is one of 0 … 1.
        has_labels: False: the float model's own answers stand for labels.
    """

    metric: str
    function: Callable[[Array, Array, Array], float]
    dataset: Dataset
    reference: float
    is_fraction: bool
    has_labels: bool


@dataclass
class Problem:
    """A model, its data and its target.

    Attributes:
        prepared: calibrated and planned. judge: of accuracy. target: to be fast on. source: file name, for people.
        digest: names model, data and settings, for what is stored about them.
    """

    prepared: Prepared
    judge: Judge
    target: Target
    source: str
    digest: str

    def policy_of(self, assignment: Assignment) -> Any:
        """The user's policy with these widths on top."""
        from edgeq.quantize.policy import LayerPolicy

        policy = self.prepared.plan.policy
        layers = {name: layer_policy(form) for name, form in assignment.items()}
        merged = dict(policy.layers)
        for name, choice in layers.items():
            merged[name] = choice.over(merged.get(name, LayerPolicy()))
        return policy.model_copy(update={"layers": merged})

    @cached_property
    def rounder(self) -> Rounder:
        """Integers of the weights for any width."""
        from edgeq.search.rounding import Rounder

        return Rounder(self.prepared.plan, self.prepared.data, self.digest)

    def integerize(self, assignment: Assignment) -> IntegerGraph:
        """The integer graph with these widths; ranges and 16-bit places are those of the plan."""
        from edgeq.quantize.integerize import build
        from edgeq.quantize.plan import Plan
        from edgeq.quantize.products import bits_of, products

        plan = self.prepared.plan
        mixed = Plan(plan.topology, plan.ranges, self.policy_of(assignment), plan.promoted)
        # One bit is ±1 with a scale of its own: there is nothing to search.
        layers = [(product, bits_of(mixed, product)) for product in products(plan.topology)]
        weights = {p.layer.name: self.rounder(plan, p, bits) for p, bits in layers if bits > 1}
        return build(mixed.with_weights(weights)).graph

    def artifact(
        self, assignment: Assignment, target: Target, path: Path, builder: KernelBuilder | None = None
    ) -> Compiled:
        """Compile an assignment for a target and write to `path`."""
        return self.write(self.integerize(assignment), target, path, builder)

    @staticmethod
    def write(graph: IntegerGraph, target: Target, path: Path, builder: KernelBuilder | None = None) -> Compiled:
        """Compile an integer graph for a target and write to `path`."""
        from edgeq import artifact
        from edgeq.compiler import CompileOptions, compile_graph

        compiled = compile_graph(graph, target, CompileOptions(max_threads=1), builder)
        artifact.write(compiled.image, compiled.objects, compiled.arch, path)
        return compiled

    def score(self, path: Path, threads: int) -> float:
        """The judge's value of an artifact's outputs."""
        from edgeq.evaluate.models import ArtifactModel

        outputs = ArtifactModel(path, threads).run(self.judge.dataset.inputs)
        first = next(iter(outputs.values()))
        data = self.judge.dataset
        assert data.labels is not None
        return self.judge.function(first, data.labels, next(iter(data.inputs.values())))


def layer_policy(form: Form) -> LayerPolicy:
    """A form as the policy says it; how more than four bits are stored is never a choice."""
    from edgeq.quantize.policy import LayerPolicy

    storage: Literal["fast", "small"] | None = None
    if form.bits <= PACKED_FROM:
        storage = "small" if form.packed else "fast"
    return LayerPolicy(weight_bits=form.bits, weights=storage)


def load_problem(
    model: str | Path,
    data: str | Path,
    target: str,
    *,
    evaluation: str | Path | None = None,
    metric: str = "top1",
    policy: str | Path | None = None,
    samples: int | None = None,
    calib_samples: int | None = None,
    preprocess: str | None = None,
    observer: str | None = None,
    progress: Progress | None = None,
) -> Problem:
    """Read, check and calibrate.

    Args:
        model: float ONNX model. data: calibration data; with labels `y` it is also what accuracy is judged on.
        target: name or folder. evaluation: other data to judge on.
        metric: as for `edgeq eval`. policy: what is fixed already.
        samples: judge on at most this many. calib_samples: calibrate on at most this many.

    Raises:
        EdgeqError: as of quantize and eval.
    """
    from edgeq import api, frontend
    from edgeq.compiler.target import load_target
    from edgeq.evaluate.models import kind_of
    from edgeq.quantize import QuantizeOptions
    from edgeq.quantize.pipeline import prepare

    if kind_of(model) != "float model":
        raise UsageError(
            "a search starts from a float model",
            where=str(model),
            why="the weights of an integer graph are already rounded",
        )
    wanted = load_target(target)
    graph = frontend.load(model)
    calibration = api.calibration_data(graph, data, calib_samples, preprocess, 0)
    options = QuantizeOptions.make(observer=observer, policy=policy, progress=progress)
    prepared = prepare(graph, calibration, options)
    judge = make_judge(model, evaluation or data, metric, samples, preprocess)
    return Problem(prepared, judge, wanted, Path(model).name, _digest(prepared, judge))


def _digest(prepared: Prepared, judge: Judge) -> str:
    """Everything that sensitivities and judgements depend on, edgeq's own arithmetic included."""
    import onnx_ir as ir

    from edgeq.cache import content_key
    from edgeq.quantize.cache import software
    from edgeq.search.rounding import ROUNDING

    model = ir.to_proto(prepared.plan.topology.model).SerializeToString(deterministic=True)
    arrays = [*prepared.data.arrays.items(), *judge.dataset.inputs.items(), ("y", judge.dataset.labels)]
    parts: list[bytes | str] = [model, repr(prepared.plan.policy), prepared.plan.ranges.observer, judge.metric]
    for name, array in arrays:
        parts += [name, np.ascontiguousarray(array).tobytes()]
    return content_key([*parts, ROUNDING, software()])


def make_judge(model: str | Path, data: str | Path, metric: str, samples: int | None, preprocess: str | None) -> Judge:
    """Labelled data with a metric; without labels the float model's own choices are the labels.

    Raises:
        DataError: too few samples, or no labels and outputs that choose nothing.
    """
    from edgeq.evaluate.dataset import Dataset, load_dataset
    from edgeq.evaluate.metrics import FRACTIONS, apply_metric, load_metric
    from edgeq.evaluate.models import open_model

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
    has_labels = dataset.labels is not None
    if not has_labels:
        flat = outputs.reshape(len(outputs), -1)
        if metric != "top1" or flat.shape[1] < 2:
            raise DataError(
                "the data has no labels",
                where=str(data),
                why=f"{metric} needs them" if metric != "top1" else "the outputs are no classes",
                hint="put the labels into the .npz as y, or give --eval",
            )
        dataset = Dataset(dataset.inputs, np.argmax(flat, axis=1))
    function = load_metric(metric)
    sign = -1.0 if metric == "mse" else 1.0

    def score(found: Array, labels: Array, inputs: Array) -> float:
        value = apply_metric(function, found, labels, inputs)
        return sign * float(next(iter(value.values())) if isinstance(value, Mapping) else value)

    assert dataset.labels is not None
    value = score(outputs, dataset.labels, next(iter(dataset.inputs.values())))
    return Judge(metric, score, dataset, value, metric in FRACTIONS, has_labels)
