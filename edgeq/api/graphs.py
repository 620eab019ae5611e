"""From whatever a caller has to integer graphs: `edgeq.quantize`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import UsageError
from edgeq.files import check_output

if TYPE_CHECKING:
    from edgeq.compiler import ProgramSource
    from edgeq.frontend.graph import FloatGraph
    from edgeq.integer import IntegerGraph
    from edgeq.quantize.pipeline import QuantizeResult
    from edgeq.quantize.samples.data import CalibrationData

from edgeq.api.result import Array, Calibration, Clock, Progress

RANDOM = "random"


# Calibration samples whose outputs travel with the artifact, so that any device can check itself.
GOLDEN_SAMPLES = 2


def quantize(
    model: str | Path | FloatGraph | Any,
    calib: Calibration | CalibrationData,
    *,
    example_inputs: Any = None,
    output: str | Path | None = None,
    observer: str | None = None,
    policy: str | Path | None = None,
    recipe: str | None = None,
    steps: str | Sequence[str] | None = None,
    weight_bits: int | None = None,
    edge_bits: int | None = None,
    weight_budget: float | None = None,
    samples: int | None = None,
    preprocess: str | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    allow_float: bool = False,
    progress: Progress | None = None,
    others: Sequence[FloatGraph] = (),
) -> QuantizeResult:
    """Make an integer graph of a float model.

    Args:
        model: ONNX file, a torch module or exported program, or a graph of `edgeq.frontend.load`.
        calib: calibration data: a path (.npz, .npy, a folder of .npy or of images), arrays {input name: float32 [n, …]}
            without the model's batch axis, or "random" for a first look at speed and size: the outputs mean nothing
            then, and everything made from the result says so.
        example_inputs: of a torch module: a tensor, a tuple of tensors or a dict by argument name (batch of 1).
        output: file to write the integer graph to (ONNX).
        observer: how ranges are chosen: l2.4 (default), minmax, moving-average, percentile, mse, entropy.
        policy: YAML file with bits and forms for each layer.
        recipe: fast, default or best: how much is tried to lower the error of the output.
        steps: names of the steps to try instead of a recipe's, as a sequence or separated by commas.
        weight_bits: 2 … 8, of all weights (default: 8); below 7, first, last and depthwise layers keep 8.
        edge_bits: of the weights of first, last and depthwise layers.
        weight_budget: normalised squared error that narrow weights may add; single layers are kept at 8 bits for it.
        samples: calibrate on at most this many.
        preprocess: for images: YAML (text or a file) with size, crop, scale, mean, std, layout, color.
        batch: size of a dynamic leading dimension; None: 1.
        shapes: input name → shape, for other dynamic dimensions.
        others: the same model at other shapes (graphs of `edgeq.frontend.load`), to quantize with the same scales.
        seed: of random calibration data.
        allow_float: accept float islands where an op has no integer form.
        progress: called with (stage, done, total).

    Returns:
        `graph`, an IntegerGraph, and `report` (bits, ranges and forms of each layer; SQNR in dB and top-1 agreement
        with the float model on the calibration data).

    Raises:
        ModelError, UnsupportedOpError, DataError, PolicyError, UsageError: see `compile`.
    """
    from edgeq.quantize import QuantizeOptions
    from edgeq.quantize import quantize as run
    from edgeq.quantize.cache import cached
    from edgeq.quantize.samples.lengths import split_shapes

    if output is not None:
        check_output(Path(output))
    programs = split_shapes(shapes)
    if len(programs) > 1:
        raise UsageError(
            "an integer graph has one shape",
            where="--shape",
            hint="several in one artifact: give them to `edgeq compile`",
        )
    model = float_graph(model, example_inputs, batch, programs[0])
    data = calibration_data(model, calib, samples, preprocess, seed)
    options = QuantizeOptions.make(
        observer=observer,
        policy=policy,
        recipe=recipe,
        steps=steps,
        weight_bits=weight_bits,
        edge_bits=edge_bits,
        weight_budget=weight_budget,
        allow_float=allow_float,
        progress=progress,
    )
    result = cached(model, data, options, partial(run, others=others), others)
    if output is not None:
        from edgeq.files import atomic_path

        with atomic_path(output) as scratch:
            result.graph.save(scratch)
    return result


def float_graph(
    model: Any, example_inputs: Any, batch: int | None, shapes: Mapping[str, Sequence[int]] | None
) -> FloatGraph:
    """Through the front end, unless the model has been there."""
    from edgeq import frontend

    if isinstance(model, str | Path):
        return frontend.load(model, batch=batch, shapes=dict(shapes or {}))
    if frontend.is_torch(model):
        return frontend.load_module(model, example_inputs)
    if not isinstance(model, frontend.FloatGraph):
        raise UsageError(
            "this is no model",
            where=type(model).__name__,
            hint="give an ONNX file, a torch module with example_inputs=, or a graph of edgeq.frontend.load",
        )
    return model


def integer_graphs(
    model: Any,
    calib: Calibration | None,
    settings: dict[str, Any],
    progress: Progress | None,
    clock: Clock,
) -> tuple[list[ProgramSource], QuantizeResult | None]:
    """The graphs to compile with golden inputs from the calibration data, and how they were made."""
    from edgeq.compiler import ProgramSource
    from edgeq.integer import IntegerGraph

    if isinstance(model, str | Path):
        from edgeq.evaluate.models import kind_of

        kind = kind_of(model)
        if kind == "artifact":
            raise UsageError("this is already an artifact", where=str(model), hint="compile the model it was made from")
        if kind == "float model":
            return _quantized(model, calib, settings, progress, clock)
    elif not isinstance(model, IntegerGraph):
        return _quantized(model, calib, settings, progress, clock)
    given = [name for name, value in {"calib": calib, **settings}.items() if value not in (None, False, 0, {})]
    if given:
        raise UsageError(
            "an integer graph is already quantized",
            where=", ".join(f"--{name.replace('_', '-')}" for name in given),
            why="calibration and its options change float models only",
            hint="leave them out, or compile the float model",
        )
    return [ProgramSource(IntegerGraph.load(model) if isinstance(model, str | Path) else model)], None


def integer_graph(
    model: Any, calib: Calibration | None, settings: dict[str, Any], progress: Progress | None = None
) -> IntegerGraph:
    """The integer graph that `compile` would compile; arguments as there."""
    return integer_graphs(model, calib, settings, progress, Clock())[0][0].graph


def _quantized(
    model: Any, calib: Calibration | None, settings: dict[str, Any], progress: Progress | None, clock: Clock
) -> tuple[list[ProgramSource], QuantizeResult]:
    from edgeq.compiler import ProgramSource
    from edgeq.quantize.samples.lengths import fit_inputs, split_shapes

    if calib is None:
        raise UsageError(
            "a float model needs calibration data",
            where=str(model) if isinstance(model, str | Path) else type(model).__name__,
            why="the ranges of its activations are not known",
            hint="give --calib with typical inputs, or --calib random for a first look at speed and size",
        )
    with clock.stage("read"):
        example, batch = settings.pop("example_inputs", None), settings.pop("batch", None)
        programs = split_shapes(settings.pop("shapes", None))
        graphs = [float_graph(model, example, batch, shapes) for shapes in programs]
    with clock.stage("quantize"):
        first, data = _calibration_graph(graphs, calib, settings)
        others = [graph for graph in graphs if graph is not first]
        chosen = {k: v for k, v in settings.items() if k not in ("samples", "preprocess", "seed")}
        result = quantize(first, data, progress=progress, others=others, **chosen)
    golden = _golden_inputs(result.graph, data)
    made = dict(zip(map(id, [first, *others]), [result.graph, *result.others], strict=True))
    integer = [made[id(graph)] for graph in graphs]
    return [ProgramSource(graph, [fit_inputs(inputs, graph) for inputs in golden]) for graph in integer], result


def _calibration_graph(
    graphs: Sequence[FloatGraph], calib: Any, settings: Mapping[str, Any]
) -> tuple[FloatGraph, CalibrationData]:
    """The graph that the calibration data fits; the largest where the data has no shape of its own."""
    from edgeq.errors import DataError
    from edgeq.quantize.session import input_specs

    given = settings.get("samples"), settings.get("preprocess"), settings.get("seed", 0)
    failures = []
    for graph in sorted(graphs, key=lambda g: -sum(math.prod(spec.shape) for spec in input_specs(g.model.graph))):
        try:
            return graph, calibration_data(graph, calib, *given)
        except DataError as error:
            failures.append(error)
    raise failures[0]


def calibration_data(
    graph: FloatGraph, calib: Any, samples: int | None, preprocess: str | None, seed: int
) -> CalibrationData:
    """Calibration data in any of the forms that `quantize` takes, checked against the graph's inputs."""
    from edgeq.quantize.samples import data as reader
    from edgeq.quantize.samples.preprocess import Preprocess
    from edgeq.quantize.session import input_specs

    if isinstance(calib, reader.CalibrationData):
        return calib
    specs = input_specs(graph.model.graph)
    if isinstance(calib, Mapping):
        return reader.from_arrays(specs, calib, limit=samples)
    spec = Preprocess.parse(preprocess) if preprocess else None
    return reader.load(calib, specs, preprocess=spec, limit=samples, seed=seed)


def _golden_inputs(graph: IntegerGraph, data: CalibrationData) -> list[dict[str, Array]]:
    from edgeq.quantize.report import quantize_inputs

    return [quantize_inputs(graph, feed) for feed in data.feeds(GOLDEN_SAMPLES)]


def pads_inputs(sources: Sequence[ProgramSource], quantized: QuantizeResult | None) -> bool:
    """Whether the artifact may pad short inputs; judged on calibration data only, random data says nothing."""
    from edgeq.quantize.samples.lengths import pads_exactly

    if len(sources) < 2 or quantized is None or not quantized.report.calibrated:
        return False
    return pads_exactly([source.graph for source in sources], [source.golden_inputs[0] for source in sources])
