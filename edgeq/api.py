"""The public functions. A command of the command line is a few lines over one of them, and has its name.

Everything heavy (onnx, onnxruntime, tvm) is imported when a function needs it. All errors that a caller can cause are
`edgeq.errors.EdgeqError`; arrays are NumPy, samples along the first axis, layouts as in the source model (NCHW).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from edgeq.errors import CompileError, RunError, UsageError
from edgeq.files import check_output

if TYPE_CHECKING:
    from edgeq.compiler import ProgramSource
    from edgeq.compiler.schedule import Schedule
    from edgeq.compiler.target import Target
    from edgeq.frontend.graph import FloatGraph
    from edgeq.integer import IntegerGraph
    from edgeq.quantize.data import CalibrationData
    from edgeq.quantize.pipeline import QuantizeResult
    from edgeq.runtime import Model

Array = NDArray[Any]
Calibration = str | Path | Mapping[str, Array]
Progress = Callable[[str, int, int], None]

RANDOM = "random"
SUFFIX = ".edgeq"
# Calibration samples whose outputs travel with the artifact, so that any device can check itself.
GOLDEN_SAMPLES = 2


@dataclass(frozen=True)
class CompileResult:
    """An artifact and what is known about it.

    Attributes:
        path: the artifact; None if none was asked for.
        target: the target's real name (`host` is resolved).
        report: layers (name, op, bits, weight bytes, multiply-accumulates), sizes in bytes, inputs and outputs.
        quantization: what the quantizer did and measured on the calibration data; None for an integer graph as input.
        seconds: wall time of each stage.
    """

    path: Path
    target: str
    report: dict[str, Any]
    quantization: dict[str, Any] | None
    seconds: dict[str, float]

    @property
    def calibrated(self) -> bool:
        """False if the ranges come from random data: speed and sizes are real then, the outputs are not."""
        return bool(self.report["calibrated"])

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "path": str(self.path),
            "target": self.target,
            **self.report,
            "quantization": self.quantization,
            "seconds": self.seconds,
        }


def compile(
    model: str | Path | IntegerGraph | FloatGraph | Any,
    *,
    target: str = "host",
    output: str | Path | None = None,
    calib: Calibration | None = None,
    max_threads: int = 4,
    weights: Literal["auto", "fast", "small"] = "auto",
    schedule: str | Path | Schedule | None = None,
    format: str | None = None,
    name: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
    fast_ram: int | None = None,
    layout: Literal["plain", "zephyr", "cmsis"] = "plain",
    debug_outputs: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> CompileResult:
    """Compile a model for a target: quantize (if it is a float model), build, link, check, write.

    Args:
        model: ONNX file with a float model, a torch module (with `example_inputs` in the settings), a graph of
            `edgeq.frontend.load`, or an integer graph (file or object), which takes no `calib` or `settings`.
        target: a name of `edgeq targets`, or a folder with a target.toml.
        output: the artifact to write; by default beside the model with the suffix .edgeq.
        calib: calibration data, see `quantize`.
        max_threads: most threads that can run the artifact; each needs scratch memory in the arena (1 to 64).
        weights: how dense layers store weights of 4 bits and less where the policy doesn't say: `fast`: a byte each;
            `small`: packed, expanded while the kernel runs; `auto`: packed where that costs little time.
        schedule: file of `edgeq tune`, or "tuned" for what it found on this machine; None: estimates decide.
        format: `edgeq` (one file for the runtime), `static` (a folder with library and header, for programs without
            a loader), `c` (a folder with C99 for any compiler) or `wasm`; by default what the target needs.
        name, flash: of static libraries and C source: C identifier, and bytes of flash that are free for the model.
        ram: bytes that are free for the model, arena and (static libraries) stack. Where whole tensors need more,
            layers run a few rows at a time, with the same bits. Static libraries: by default what the target has.
        fast_ram: of static libraries and C source: bytes of a second, fast memory (DTCM) for an arena of its own, which
            holds the buffers that are touched most.
        layout: of static libraries and C source: what is written beside them for other build systems, a Zephyr module
            with CMakeLists.txt or a CMSIS pack.
        debug_outputs: every 8- and 16-bit value is an output of the artifact too, so that `compare` finds the op where
            two executions part. The bits are the same; less is fused, and the arena is larger.
        progress: called with (stage, done, total).
        **settings: those of `quantize` behind `calib`. `shapes` may give several shapes to an input: the artifact then
            holds a program for each, quantized once, and the runtime takes the one for the shapes of its inputs.

    Returns:
        The artifact's path and a report. The artifact has passed its own golden vectors if this machine or an
        installed emulator can run it (`report["checked"]`: "native", "emulated" or "no").

    Raises:
        ModelError, UnsupportedOpError: the model can't be read, or an op has no integer form.
        DataError, PolicyError: calibration data or policy don't fit.
        TargetError, ToolError: unknown target; a linker or emulator is missing or fails.
        CompileError: an accumulator could overflow, or the compiled code contradicts the reference.
        UsageError: options that don't go together.
    """
    from edgeq import artifact
    from edgeq.artifact.float_free import require_once as require_float_free
    from edgeq.compiler import CompileOptions, KernelBuilder, compile_model, load_variants
    from edgeq.compiler.schedule import resolve_schedule
    from edgeq.files import atomic_path
    from edgeq.formats import C_TARGET, folder_writer, format_for

    clock = _Clock()
    wanted = load_variants(C_TARGET if format == "c" and target == "host" else target)
    measured = resolve_schedule(schedule, *(each.name for each in wanted))
    kind = format_for(format, wanted[0])
    if debug_outputs and kind != "edgeq":
        raise UsageError(f"format {kind} has no debug outputs", hint="compare an artifact for another target")
    if kind in ("static", "c"):
        limits = {"flash": flash, "ram": ram, "fast_ram": fast_ram, "layout": layout}
        make = folder_writer(kind)
        return make(model, wanted[0], output, calib, settings, name=name, progress=progress, **limits)
    if name or flash or fast_ram or layout != "plain":
        raise UsageError("name, flash, fast_ram and layout belong to static libraries", hint="add --format static")
    if kind == "wasm":
        if ram:
            raise UsageError("a WebAssembly module takes no limit of RAM", hint="leave out --ram")
        from edgeq.wasm_api import compile_wasm

        return compile_wasm(model, wanted, target, output, calib, settings, progress=progress)
    path = _output_path(model, output)
    with KernelBuilder() as builder:
        if not all(map(_has_kernels, wanted)):
            # Code generators take seconds to start: let them do so while the model is calibrated.
            builder.start()
        sources, quantized = _integer_graphs(model, calib, settings, progress, clock)
        if debug_outputs:
            from edgeq.integer.shown import show_values, values_of

            sources = [replace(source, graph=show_values(source.graph)) for source in sources]
        graph = sources[0].graph
        with clock.stage("build"):
            manifest = _manifest(graph, model, quantized)
            if debug_outputs:
                manifest["debug_outputs"] = values_of(graph)
            options = CompileOptions(
                max_threads,
                manifest=manifest,
                progress=progress,
                weights=weights,
                schedule=measured,
                arena_limit=ram,
            )
            compiled = compile_model(sources, wanted, options, builder, pads=_pads(sources, quantized))
            compiled.require_arena(ram)
    with atomic_path(path) as scratch:
        with clock.stage("link"):
            sizes = artifact.write_variants(compiled.variants, compiled.objects, scratch)
        with clock.stage("check"):
            code = require_float_free(scratch)
            checked = _self_check(scratch, wanted, progress)
    from edgeq.evaluate.describe import compile_report

    report = compile_report(graph, compiled, sizes)
    report["checked"] = checked
    report["float_free_instructions"] = code.instructions
    report |= {key: compiled.first.image.manifest[key] for key in ("row_wise", "lean")}
    name = wanted[0].name if len(wanted) == 1 else target
    return CompileResult(path, name, report, quantized.report.as_dict() if quantized else None, clock.seconds)


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
    from edgeq.quantize.lengths import split_shapes

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


def load(path: str | Path) -> Model:
    """Load an artifact.

    Args:
        path: written by `compile`. One for another processor runs under its emulator, if that is installed.

    Returns:
        A model: `.run(x)` takes float32 arrays (or integers as the artifact stores them) and returns a dict of outputs;
        `.inputs`, `.outputs` name shapes, dtypes, scales and zero points.

    Raises:
        ArtifactError: truncated, changed, of another ABI, or for a CPU feature that is missing here.
        ToolError: foreign, and the emulator isn't installed.
    """
    from edgeq import runtime

    return runtime.load(path)


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


class _Clock:
    """Wall seconds of the stages of one call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def _integer_graphs(
    model: Any,
    calib: Calibration | None,
    settings: dict[str, Any],
    progress: Progress | None,
    clock: _Clock,
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
    return _integer_graphs(model, calib, settings, progress, _Clock())[0][0].graph


def _quantized(
    model: Any, calib: Calibration | None, settings: dict[str, Any], progress: Progress | None, clock: _Clock
) -> tuple[list[ProgramSource], QuantizeResult]:
    from edgeq.compiler import ProgramSource
    from edgeq.quantize.lengths import fit_inputs, split_shapes

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


def _pads(sources: Sequence[ProgramSource], quantized: QuantizeResult | None) -> bool:
    """Whether the artifact may pad short inputs; judged on calibration data only, random data says nothing."""
    from edgeq.quantize.lengths import pads_exactly

    if len(sources) < 2 or quantized is None or not quantized.report.calibrated:
        return False
    return pads_exactly([source.graph for source in sources], [source.golden_inputs[0] for source in sources])


def calibration_data(
    graph: FloatGraph, calib: Any, samples: int | None, preprocess: str | None, seed: int
) -> CalibrationData:
    """Calibration data in any of the forms that `quantize` takes, checked against the graph's inputs."""
    from edgeq.quantize import data as reader
    from edgeq.quantize.preprocess import Preprocess
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


def _manifest(graph: IntegerGraph, model: Any, quantized: QuantizeResult | None) -> dict[str, Any]:
    """What travels with the artifact: nothing that differs between two runs, no path of this machine."""
    manifest: dict[str, Any] = {"calibrated": graph.calibrated}
    if isinstance(model, str | Path):
        manifest["source"] = Path(model).name
    if quantized is not None:
        report = quantized.report.as_dict()
        kept = ("samples", "observer", "recipe", "steps", "outputs", "compared", "promoted", "warnings")
        manifest["quantization"] = {key: report[key] for key in kept}
    return manifest


def _output_path(model: Any, output: str | Path | None) -> Path:
    if output is None:
        if not isinstance(model, str | Path):
            raise UsageError("no place for the artifact", why="a graph or module has no file", hint="give output=")
        output = Path(model).with_suffix(SUFFIX)
    path = Path(output)
    check_output(path)
    return path


def _has_kernels(target: Target) -> bool:
    """Whether this target was ever compiled for: its kernels are then likely to be in the cache."""
    from edgeq.cache import cache_dir

    return any(cache_dir("kernels", target.name).iterdir())


def _self_check(path: Path, variants: Sequence[Target], progress: Progress | None) -> str:
    """Run the artifact's golden vectors in all that can run here. Returns how: "native", "emulated" or "no"."""
    import shutil

    from edgeq import runtime

    target = variants[-1]
    emulator = target.spec.toolchain.emulator
    native = target.runs_here()
    if not native and not (emulator and shutil.which(emulator)):
        return "no"
    if progress:
        progress("self-check", 0, 1)
    try:
        runtime.load(path).verify()
    except RunError as error:
        raise CompileError(
            "the compiled code contradicts the integer reference",
            where=f"golden vectors, target {target.name}",
            why=error.render(),
            hint="this is a defect of edgeq: please report the model and the target",
        ) from error
    if progress:
        progress("self-check", 1, 1)
    return "native" if native else "emulated"
