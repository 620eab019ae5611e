"""Models as static libraries and on emulated boards: `edgeq.compile(format="static")`, `edgeq bench --target`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.api.graphs import integer_graphs
from edgeq.api.result import Calibration, Clock, CompileResult, Progress, manifest_of
from edgeq.errors import CompileError, UsageError
from edgeq.files import publish

if TYPE_CHECKING:
    from edgeq.artifact.static import StaticSizes
    from edgeq.compiler import ProgramSource
    from edgeq.compiler.fit import Fit
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.target import Target
    from edgeq.evaluate.firmware import FirmwareRun
    from edgeq.integer import IntegerGraph
    from edgeq.quantize import QuantizeResult

STACK_TRIES = 2  # each program has a stack of its own: compile again for what it leaves


def compile_static(
    model: Any,
    target: Target,
    output: str | Path | None,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
    fast_ram: int | None = None,
    layout: str = "plain",
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a model to lib<name>.a, <name>.h and <name>.json in a folder.

    Args:
        target: any target; those without an operating system know their memories.
        output: the folder; by default beside the model, named after model and target.
        settings: those of `edgeq.quantize`.
        name: C identifier that begins the library's symbols; by default from the model's file name.
        flash, ram: bytes that are free for the model; by default what target.toml lists.
        fast_ram: bytes of a fast memory for a second arena with the hottest buffers; None: one arena.
        layout: what stands beside it for other build systems: plain, zephyr, cmsis (`edgeq.artifact.layout`).

    Raises:
        CompileError: the model doesn't fit, or the compiled code contradicts the reference on the emulated board.
        UsageError: no place for the library, or the name is no identifier.
        Everything that `edgeq.compile` raises.
    """
    from edgeq.artifact.float_free import require_once
    from edgeq.artifact.layout import write_layout
    from edgeq.artifact.static import write_static
    from edgeq.compiler.fit import fit, require_fit
    from edgeq.compiler.variants import CompiledModel
    from edgeq.evaluate.describe import compile_report

    clock = Clock()
    folder, stem, graph, compiled, quantized = compile_into(
        model, target, output, calib, settings, progress, clock, name=name, ram=ram, fast_ram=fast_ram, layout=layout
    )
    with clock.stage("link"):
        with tempfile.TemporaryDirectory(prefix="edgeq-static-") as scratch:
            sizes = write_static(compiled, Path(scratch), stem)
            instructions = require_once(Path(scratch) / f"lib{stem}.a").instructions
            found = fit(compiled, sizes, flash=flash, ram=ram)
            require_fit(found, target.name)
            publish(Path(scratch), folder)
        write_layout(layout, folder, stem, target)
    with clock.stage("check"):
        run = _check(compiled)
    checked = "no" if run is None else "emulated"
    report = compile_report(graph, CompiledModel([[compiled]]), sizes)
    report["float_free_instructions"] = instructions
    report |= {"checked": checked, "format": "static", "fit": found.as_dict(), "name": stem}
    report |= {"row_wise": None, "lean": compiled.image.manifest["lean"]}
    if compiled.row_wise:
        with clock.stage("compare"):
            report["row_wise"] = asdict(compiled.row_wise) | _row_wise_cost(graph, compiled, run, sizes.code)
    return CompileResult(folder, target.name, report, quantized, clock.seconds)


def bench_firmware(
    model: Any,
    target: Target,
    calib: Calibration | None,
    *,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    ram: int | None = None,
) -> tuple[Compiled, FirmwareRun, Fit]:
    """Run a model on the target's emulated board: exact instructions of every step, stack, differing output bytes.

    Args:
        ram: bytes that are free for the model; by default what target.toml lists.

    Raises:
        Everything that `compile_static` raises; ToolError: emulator or bare-metal compiler missing.
    """
    from edgeq.compiler.fit import fit, free_ram, require_fit
    from edgeq.evaluate.firmware import run_firmware

    room = free_ram(target, ram)
    _, compiled, _ = compile_one(model, target, calib, settings, progress, Clock(), room=room)
    run = run_firmware(compiled)
    found = fit(compiled, run.sizes, ram=ram)
    if ram is not None:
        require_fit(found, target.name)
    return compiled, run, found


def one_source(
    model: Any,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None,
    progress: Progress | None,
    clock: Clock,
    product: str,
) -> tuple[ProgramSource, QuantizeResult | None]:
    """The graph with golden inputs and how it was made, for products that hold no second shape.

    Raises:
        UsageError: several shapes are asked for. Everything that `edgeq.quantize` raises.
    """
    sources, quantized = integer_graphs(model, calib, dict(settings or {}), progress, clock)
    if len(sources) > 1:
        raise UsageError(
            f"{product} holds one program",
            why=f"{len(sources)} shapes are asked for",
            hint="give one --shape, and make one for each",
        )
    return sources[0], quantized


def compile_into(
    model: Any,
    target: Target,
    output: str | Path | None,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None,
    progress: Progress | None,
    clock: Clock,
    *,
    name: str | None,
    ram: int | None,
    fast_ram: int | None,
    layout: str,
) -> tuple[Path, str, IntegerGraph, Compiled, dict[str, Any] | None]:
    """What static libraries and C source share up to writing: folder, C identifier, and what `compile_one` gives.

    Arguments that can't be are refused before anything is compiled; those and the errors are `compile_static`'s.
    """
    from edgeq.artifact.layout import check_layout
    from edgeq.artifact.static import identifier
    from edgeq.compiler.fit import check_fast_room, free_ram

    check_layout(layout)
    folder = library_folder(model, output, target)
    room = free_ram(target, ram)
    fast = check_fast_room(target, fast_ram)
    graph, compiled, quantized = compile_one(model, target, calib, settings, progress, clock, room=room, fast_room=fast)
    stem = identifier(name or (Path(model).name.split(".")[0] if isinstance(model, str | Path) else "model"))
    return folder, stem, graph, compiled, quantized


def compile_one(
    model: Any,
    target: Target,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None,
    progress: Progress | None,
    clock: Clock,
    product: str = "a static library",
    *,
    room: int | None = None,
    fast_room: int = 0,
) -> tuple[IntegerGraph, Compiled, dict[str, Any] | None]:
    """The graph, its one program and the quantizer's report.

    Args:
        room: bytes for arena and stack together; where whole tensors need more, layers run row-wise if that helps.
        fast_room: bytes of a fast memory for a second arena.
    """
    from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph

    with KernelBuilder() as builder:
        source, quantized = one_source(model, calib, settings, progress, clock, product)
        graph, golden = source.graph, source.golden_inputs
        with clock.stage("build"):
            options = CompileOptions(
                1, golden, manifest_of(graph, model, quantized), progress, arena_limit=room, fast_room=fast_room
            )
            compiled = compile_graph(graph, target, options, builder)
            for _ in range(STACK_TRIES if room is not None else 0):
                stack = _stack(compiled)
                if stack + compiled.image.arena_size <= (room or 0) or compiled.image.arena_size > (room or 0):
                    break
                compiled = compile_graph(graph, target, replace(options, arena_limit=(room or 0) - stack), builder)
    return graph, compiled, quantized.report.as_dict() if quantized else None


def _stack(compiled: Compiled) -> int:
    """Bytes of stack that a run takes at most; known when everything is linked. 0 for C source: nobody knows."""
    return 0 if compiled.target.emits_c else _sizes(compiled).stack


def _sizes(compiled: Compiled) -> StaticSizes:
    """What a static library takes."""
    import tempfile

    from edgeq.artifact.static import write_static

    with tempfile.TemporaryDirectory(prefix="edgeq-static-") as scratch:
        return write_static(compiled, Path(scratch), "model")


def library_folder(model: Any, output: str | Path | None, target: Target) -> Path:
    """The folder to write, by default beside the model.

    Raises:
        UsageError: it can't be one.
    """
    if output is None:
        if not isinstance(model, str | Path):
            raise UsageError("no place for the library", why="a graph or module has no file", hint="give output=")
        output = Path(model).with_name(f"{Path(model).name.split('.')[0]}-{target.name}")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError("can't write the library", where=str(folder), why="it is a file", hint="give a folder with -o")
    if not folder.absolute().parent.is_dir():
        raise UsageError(
            "can't write the library",
            where=str(folder),
            why="the folder around it doesn't exist",
            hint=f"mkdir -p {folder.parent}",
        )
    return folder


def _row_wise_cost(graph: IntegerGraph, compiled: Compiled, run: FirmwareRun | None, code: int) -> dict[str, Any]:
    """Instructions and code, with whole tensors and row-wise; nothing where no board could run the whole model."""
    from edgeq.compiler import CompileOptions, compile_graph
    from edgeq.evaluate.firmware import run_firmware

    if run is None:
        return {}
    options = CompileOptions(1, golden=compiled.image.golden, fast_room=compiled.program.fast_room)
    whole = compile_graph(graph, compiled.target, options)
    try:
        counted = run_firmware(whole)
    except CompileError:  # too large for the emulated board, which the limit was about
        return {}
    return {"instructions": (counted.total, run.total), "code": (_sizes(whole).code, code)}


def _check(compiled: Compiled) -> FirmwareRun | None:
    """Runs the golden vectors on the emulated board; None where there is none."""
    from edgeq.evaluate.firmware import COMPILER, EMULATOR, run_firmware

    if compiled.target.spec.board is None or not (shutil.which(COMPILER) and shutil.which(EMULATOR)):
        return None
    run = run_firmware(compiled)
    if run.different:
        raise CompileError(
            "the compiled code contradicts the integer reference",
            where=f"golden vectors, target {compiled.target.name}",
            why=f"{run.different} bytes of outputs differ in {run.runs} runs",
            hint="this is a defect of edgeq: please report the model and the target",
        )
    return run


def firmware_report(compiled: Compiled, run: FirmwareRun, found: Fit) -> dict[str, Any]:
    """What `edgeq bench --target` prints, as JSON can hold it."""
    steps = [
        {"name": row["name"], "op": "+".join(row["ops"]), "instructions": count, "macs": row["macs"]}
        for row, count in zip(compiled.layers, run.steps, strict=True)
    ]
    if run.cycles is not None:
        steps = [{**step, "cycles_estimated": cycles} for step, cycles in zip(steps, run.cycles, strict=True)]
    return {
        "target": compiled.target.name,
        "instructions": run.total,
        "cycles_estimated": None if run.cycles is None else sum(run.cycles),
        "stack": run.stack,
        "runs": run.runs,
        "different": run.different,
        "sizes": asdict(run.sizes),
        "macs": compiled.macs,
        "row_wise": asdict(compiled.row_wise) if compiled.row_wise else None,
        "steps": steps,
        "peak": found.peak,
    }
