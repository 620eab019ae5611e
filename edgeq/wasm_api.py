"""Models as WebAssembly modules: `edgeq.compile(target="wasm-simd128")`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.api import Calibration, CompileResult, Progress, _Clock
from edgeq.errors import CompileError, UsageError
from edgeq.files import check_output

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

SUFFIX = ".wasm"


def compile_wasm(
    model: Any,
    target: Target,
    output: str | Path | None,
    calib: Calibration | None,
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a model to a .wasm file; edgeq.mjs and edgeq.d.ts are written beside it.

    Args:
        target: of `arch = "wasm32"`.
        output: the module; by default beside the model with the suffix .wasm.
        settings: those of `edgeq.quantize`.

    Raises:
        UsageError: no place for the module, or its name doesn't end in .wasm.
        CompileError: the compiled code contradicts the reference.
        Everything that `edgeq.compile` raises.
    """
    from edgeq.artifact.wasm import write_wasm
    from edgeq.compiler.variants import CompiledModel
    from edgeq.evaluate.describe import compile_report
    from edgeq.static_api import compile_one

    clock = _Clock()
    path = _path(model, output)
    graph, compiled, quantized = compile_one(model, target, calib, settings, progress, clock, "a WebAssembly module")
    with clock.stage("link"):
        sizes = write_wasm(compiled, path)
    with clock.stage("check"):
        checked = _check(path, target)
    report = compile_report(graph, CompiledModel([[compiled]]), sizes) | {"checked": checked, "format": "wasm"}
    return CompileResult(path, target.name, report, quantized, clock.seconds)


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


def _check(path: Path, target: Target) -> str:
    """Runs the golden vectors under Node.js, if it is there. Returns "emulated" or "no"."""
    from edgeq.evaluate.webassembly import ENGINE, differing_bytes

    if not shutil.which(ENGINE):
        return "no"
    different = differing_bytes(path)
    if different:
        raise CompileError(
            "the compiled code contradicts the integer reference",
            where=f"golden vectors, target {target.name}",
            why=f"{different} bytes of outputs differ under Node.js",
            hint="this is a defect of edgeq: please report the model and the target",
        )
    return "emulated"
