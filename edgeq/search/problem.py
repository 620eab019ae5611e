"""The network to search: calibrated once, then made into integer graphs, artifacts and scores for many assignments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import UsageError
from edgeq.search.judge import Judge, make_judge
from edgeq.search.space import Assignment, Space, layer_of

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.integer import IntegerGraph
    from edgeq.quantize.pipeline import Prepared, QuantizeOptions
    from edgeq.quantize.plan import Plan
    from edgeq.quantize.policy import LayerPolicy
    from edgeq.search.costs.networks import Network
    from edgeq.search.rounding import Rounder

Progress = Callable[[str, int, int], None]


@dataclass
class Problem:
    """A model, its data and its target.

    Attributes:
        prepared: calibrated and planned. judge: of accuracy. source: file name, for people.
        targets: to be fast on, several where one name stands for them. name: what the user calls them.
        options: of quantization; its recipe is what final artifacts get.
        quantization: names model, calibration data and settings, for roundings and sensitivities.
        digest: names the judge's data besides, for judgements.
        planned: networks by target and changes, so that none is planned twice.
    """

    prepared: Prepared
    judge: Judge
    targets: tuple[Target, ...]
    name: str
    source: str
    quantization: str
    digest: str
    options: QuantizeOptions
    planned: dict[tuple[str, str], Network] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[str, ...]:
        """Of the recipe."""
        from edgeq.quantize.recipe import steps_of

        return steps_of(self.options.recipe, self.options.steps)

    @cached_property
    def classes(self) -> list[bool]:
        """For each output of the graph, whether it holds logits or probabilities."""
        from edgeq.quantize.error.divergence import class_outputs
        from edgeq.quantize.promote import final_outputs
        from edgeq.quantize.topology import name_of

        topology = self.prepared.plan.topology
        scored = final_outputs(topology)
        outputs = [name_of(value) for value in topology.graph.outputs]
        # Behind a softmax an output isn't the value that is scored, but stands for the same classes.
        same = scored if len(scored) == len(outputs) else outputs
        return class_outputs(topology, same)

    @property
    def target(self) -> Target:
        """The only target, or the best variant."""
        return self.targets[0]

    def policy_of(self, assignment: Assignment) -> Any:
        """The user's policy with these forms on top."""
        policy = self.prepared.plan.policy
        return policy.model_copy(update={"layers": said_by(assignment, policy.layers)})

    def plan_of(self, assignment: Assignment) -> Plan:
        """The plan with these forms; ranges and promoted tensors are those of the problem."""
        from edgeq.quantize.plan import Plan

        plan = self.prepared.plan
        return Plan(plan.topology, plan.ranges, self.policy_of(assignment), plan.promoted)

    @cached_property
    def rounder(self) -> Rounder:
        """Integers of the weights for any width."""
        from edgeq.search.rounding import Rounder

        return Rounder(self.prepared.plan, self.prepared.data, self.quantization)

    def round_all(self, space: Space, progress: Progress | None = None) -> None:
        """Solve the integers of every layer in every width of a space, side by side."""
        from edgeq.quantize.products import products

        widths = {place.name: place.widths for place in space.weighted}
        found = products(self.prepared.plan.topology)
        self.rounder.solve_all([(p, bits) for p in found for bits in widths[p.layer.name] if bits > 1], progress)

    def integerize(self, assignment: Assignment) -> IntegerGraph:
        """The integer graph with these forms."""
        from edgeq.quantize.integerize import build
        from edgeq.quantize.products import bits_of, products

        mixed = self.plan_of(assignment)
        # One bit is ±1 with a scale of its own: there is nothing to search.
        layers = [(product, bits_of(mixed, product)) for product in products(mixed.topology)]
        layers = [(product, bits) for product, bits in layers if bits > 1]
        self.rounder.solve_all(layers, plan=mixed)
        weights = {product.layer.name: self.rounder(mixed, product, bits) for product, bits in layers}
        return build(mixed.with_weights(weights)).graph

    def artifact(
        self, assignment: Assignment, target: Target, path: Path, builder: KernelBuilder | None = None
    ) -> Compiled:
        """Compile an assignment for a target and write to `path`."""
        return write_artifact(self.integerize(assignment), target, path, builder)


def write_artifact(graph: IntegerGraph, target: Target, path: Path, builder: KernelBuilder | None = None) -> Compiled:
    """Compile an integer graph for a target and write to `path` what a device would load or link."""
    from edgeq import artifact
    from edgeq.artifact.static import write_static
    from edgeq.artifact.wasm import write_wasm
    from edgeq.compiler import CompileOptions, compile_graph

    compiled = compile_graph(graph, target, CompileOptions(max_threads=1), builder)
    if target.bare_metal:
        write_static(compiled, path.parent, path.stem)
        path.with_name(f"lib{path.stem}.a").replace(path)
    elif target.webassembly:
        write_wasm(compiled, path)
    else:
        artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    return compiled


def said_by(assignment: Assignment, given: Mapping[str, LayerPolicy]) -> dict[str, LayerPolicy]:
    """Entries of a policy by layer: those given, with the forms of an assignment on top."""
    from edgeq.quantize.policy import LayerPolicy

    merged = dict(given)
    for name, choice in assignment.items():
        layer = layer_of(name, choice)
        merged[layer] = choice.change.over(merged.get(layer, LayerPolicy()))
    return merged


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
    recipe: str | None = None,
    steps: str | None = None,
    progress: Progress | None = None,
) -> Problem:
    """Read, check and calibrate.

    Args:
        model: float ONNX model. data: calibration data; with labels `y` it is also what accuracy is judged on.
        target: name or folder. evaluation: other data to judge on.
        metric: as for `edgeq eval`. policy: what is fixed already.
        samples: judge on at most this many. calib_samples: calibrate on at most this many.
        recipe, steps: of final artifacts, as for `edgeq compile`; policies are proposed and judged with GPTQ alone.

    Raises:
        EdgeqError: as of quantize and eval.
    """
    from edgeq import frontend
    from edgeq.api import graphs
    from edgeq.compiler import load_variants
    from edgeq.evaluate.models import kind_of
    from edgeq.quantize import QuantizeOptions
    from edgeq.quantize.error.divergence import class_outputs
    from edgeq.quantize.pipeline import prepare
    from edgeq.quantize.promote import final_outputs

    if kind_of(model) != "float model":
        raise UsageError(
            "a search starts from a float model",
            where=str(model),
            why="the weights of an integer graph are already rounded",
        )
    wanted = tuple(load_variants(target))
    graph = frontend.load(model)
    calibration = graphs.calibration_data(graph, data, calib_samples, preprocess, 0)
    options = QuantizeOptions.make(observer=observer, policy=policy, recipe=recipe, steps=steps, progress=progress)
    prepared = prepare(graph, calibration, options)
    topology = prepared.plan.topology
    classes = class_outputs(topology, final_outputs(topology))
    judge = make_judge(model, evaluation or data, metric, samples, preprocess, classes[0])
    known = _quantization_digest(prepared)
    name = Path(target).name if len(wanted) > 1 else wanted[0].name
    return Problem(prepared, judge, wanted, name, Path(model).name, known, _judge_digest(known, judge), options)


def _quantization_digest(prepared: Prepared) -> str:
    """Everything that roundings and sensitivities depend on, edgeq's own arithmetic included."""
    import onnx_ir as ir

    from edgeq.cache import content_key
    from edgeq.quantize.cache import software
    from edgeq.search.rounding import ROUNDING

    model = ir.to_proto(prepared.plan.topology.model).SerializeToString(deterministic=True)
    parts: list[bytes | str] = [model, repr(prepared.plan.policy), prepared.plan.ranges.observer]
    for name, array in prepared.data.arrays.items():
        parts += [name, np.ascontiguousarray(array).tobytes()]
    return content_key([*parts, ROUNDING, software()])


def _judge_digest(quantization: str, judge: Judge) -> str:
    """Everything that judgements depend on."""
    from edgeq.cache import content_key

    parts: list[bytes | str] = [quantization, judge.scorer.metric]
    for name, array in [*judge.dataset.inputs.items(), ("y", judge.dataset.labels)]:
        parts += [name, np.ascontiguousarray(array).tobytes()]
    return content_key(parts)
