"""Models as WebAssembly modules: `edgeq.compile(target="wasm")`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.api.result import Calibration, Clock, CompileResult, Progress, manifest_of
from edgeq.errors import CompileError, UsageError
from edgeq.files import check_output

if TYPE_CHECKING:
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.target import Target
    from edgeq.integer.graph import IntegerGraph

SUFFIX = ".wasm"


def compile_wasm(
    model: Any,
    targets: Sequence[Target],
    name: str,
    output: str | Path | None,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a model to a .wasm file, or one for each kind of engine; edgeq.mjs and edgeq.d.ts are written beside it.

    Args:
        targets: of `arch = "wasm32"`, the one that runs everywhere last: its module gets the name of `output`, those of
            the others have what is behind "wasm-" in the target's name in front of the suffix.
        name: of the target as it was asked for.
        output: the module; by default beside the model with the suffix .wasm.
        settings: those of `edgeq.quantize`.

    Returns:
        the last module's path; the report is about it, with a list `modules` of all.

    Raises:
        UsageError: no place for the module, or its name doesn't end in .wasm.
        CompileError: the compiled code contradicts the reference.
        Everything that `edgeq.compile` raises.
    """
    from edgeq.artifact.wasm import write_wasm
    from edgeq.compiler.variants import CompiledModel
    from edgeq.evaluate.describe import compile_report

    clock = Clock()
    path = _path(model, output)
    graph, programs, quantized = _compiled(model, targets, calib, settings, progress, clock)
    files = [_name(path, target, target is targets[-1]) for target in targets]
    with clock.stage("link"):
        sizes = [write_wasm(compiled, file) for compiled, file in zip(programs, files, strict=True)]
    with clock.stage("check"):
        checked = [_check(file, target) for file, target in zip(files, targets, strict=True)]
    modules = [
        {"file": file.name, "target": target.name, "sizes": asdict(size), "checked": state}
        for file, target, size, state in zip(files, targets, sizes, checked, strict=True)
    ]
    report = compile_report(graph, CompiledModel([[programs[-1]]]), sizes[-1])
    report |= {"checked": checked[-1], "format": "wasm", "modules": modules}
    return CompileResult(path, name, report, quantized, clock.seconds)


def _compiled(
    model: Any,
    targets: Sequence[Target],
    calib: Calibration | None,
    settings: Mapping[str, Any] | None,
    progress: Progress | None,
    clock: Clock,
) -> tuple[IntegerGraph, list[Compiled], dict[str, Any] | None]:
    """The graph, its program for each target and the quantizer's report."""
    from edgeq.api.static import one_source
    from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph

    programs: list[Compiled] = []
    with KernelBuilder() as builder:
        source, quantized = one_source(model, calib, settings, progress, clock, "a WebAssembly module")
        manifest = manifest_of(source.graph, model, quantized)
        with clock.stage("build"):
            for target in targets:
                # All compute the same bits: the reference runs once.
                golden = programs[0].image.golden if programs else ()
                options = CompileOptions(1, source.golden_inputs, manifest, progress, golden=golden)
                programs.append(compile_graph(source.graph, target, options, builder))
    return source.graph, programs, quantized.report.as_dict() if quantized else None


def _path(model: Any, output: str | Path | None) -> Path:
    if output is None:
        if not isinstance(model, str | Path):
            raise UsageError("no place for the module", why="a graph or module has no file", hint="give output=")
        output = Path(model).with_suffix(SUFFIX)
    path = Path(output)
    if path.suffix != SUFFIX:
        raise UsageError("a WebAssembly module's name ends in .wasm", where=str(path), hint=f"-o {path.stem}{SUFFIX}")
    check_output(path)
    return path


def _name(path: Path, target: Target, main: bool) -> Path:
    """Where a target's module goes; `loadBest` of edgeq.mjs knows these names."""
    return path if main else path.with_suffix(f".{target.name.removeprefix('wasm-')}{SUFFIX}")


def _check(path: Path, target: Target) -> str:
    """Runs the golden vectors under Node.js, if it is there and can. Returns "emulated", "no" or "other engine"."""
    from edgeq.runtime.node import ENGINE, differing_bytes

    if not shutil.which(ENGINE):
        return "no"
    different = differing_bytes(path)
    if different is None:
        return "other engine"
    if different:
        raise CompileError(
            "the compiled code contradicts the integer reference",
            where=f"golden vectors, target {target.name}",
            why=f"{different} bytes of outputs differ under Node.js",
            hint="this is a defect of edgeq: please report the model and the target",
        )
    return "emulated"
