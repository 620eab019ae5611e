"""From a model to an artifact that has passed its own check: `edgeq.compile`; `edgeq.load`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeq.errors import CompileError, RunError, UsageError
from edgeq.files import check_output

if TYPE_CHECKING:
    from edgeq.compiler import CompiledModel
    from edgeq.compiler.schedule import Schedule
    from edgeq.compiler.target import Target
    from edgeq.frontend.graph import FloatGraph
    from edgeq.integer import IntegerGraph
    from edgeq.runtime import Model

from edgeq.api.graphs import integer_graphs, pads_inputs
from edgeq.api.result import Calibration, Clock, CompileResult, Progress, manifest_of

SUFFIX = ".edgeq"


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
    from edgeq.api.formats import C_TARGET, folder_writer, format_for
    from edgeq.compiler import CompileOptions, KernelBuilder, compile_model, load_variants
    from edgeq.compiler.schedule import resolve_schedule
    from edgeq.runtime.build import library as runtime_library

    clock = Clock()
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
        from edgeq.api.wasm import compile_wasm

        return compile_wasm(model, wanted, target, output, calib, settings, progress=progress)
    path = _output_path(model, output)
    with KernelBuilder() as builder, ThreadPoolExecutor(1) as ahead:
        if not all(map(_has_kernels, wanted)):
            # Code generators take seconds to start: let them do so while the model is calibrated.
            builder.start()
        # The runtime that checks the artifact is built when it is first needed: meanwhile, too.
        runtime_built = ahead.submit(runtime_library) if wanted[-1].runs_here() else None
        sources, quantized = integer_graphs(model, calib, settings, progress, clock)
        if debug_outputs:
            from edgeq.integer.shown import show_values, values_of

            sources = [replace(source, graph=show_values(source.graph)) for source in sources]
        graph = sources[0].graph
        with clock.stage("build"):
            manifest = manifest_of(graph, model, quantized)
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
            compiled = compile_model(sources, wanted, options, builder, pads=pads_inputs(sources, quantized))
            compiled.require_arena(ram)
    report = _written(compiled, graph, path, wanted, runtime_built, clock, progress)
    report |= {key: compiled.first.image.manifest[key] for key in ("row_wise", "lean")}
    name = wanted[0].name if len(wanted) == 1 else target
    return CompileResult(path, name, report, quantized.report.as_dict() if quantized else None, clock.seconds)


def _written(
    compiled: CompiledModel,
    graph: IntegerGraph,
    path: Path,
    wanted: Sequence[Target],
    runtime_built: Future[Path] | None,
    clock: Clock,
    progress: Progress | None,
) -> dict[str, Any]:
    """Links the artifact and checks it before it gets its name. Returns the report on it."""
    from edgeq import artifact
    from edgeq.artifact.float_free import require_once as require_float_free
    from edgeq.evaluate.describe import compile_report
    from edgeq.files import atomic_path

    with atomic_path(path) as scratch:
        with clock.stage("link"):
            sizes = artifact.write_variants(compiled.variants, compiled.objects, scratch)
        with clock.stage("check"):
            code = require_float_free(scratch)
            if runtime_built is not None:
                runtime_built.result()
            checked = _self_check(scratch, wanted, progress)
    report = compile_report(graph, compiled, sizes)
    return report | {"checked": checked, "float_free_instructions": code.instructions}


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
