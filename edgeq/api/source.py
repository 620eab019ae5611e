"""Models as C source: `edgeq.compile(format="c")`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.api.result import Calibration, Clock, CompileResult, Progress
from edgeq.errors import CompileError, ToolError
from edgeq.files import publish

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

_MAIN = """#include <stdio.h>
#include "{name}.h"
{upper}_ARENA(arena);
{second}int main(void) {{
  printf("%lu\\n", (unsigned long){name}_check({arenas}));
  return 0;
}}
"""


def compile_source(
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
    """Compile a model to C99 in a folder.

    Args:
        target: one that `emits_c`.
        output: the folder; by default beside the model, named after model and target.
        settings: those of `edgeq.quantize`.
        name: C identifier that begins the symbols and files; by default from the model's file name.
        fast_ram: bytes of a fast memory for a second arena with the hottest buffers; None: one arena.
        layout: what stands beside it for other build systems: plain, zephyr, cmsis (`edgeq.artifact.layout`).
        flash, ram: bytes that are free for the weights and the arena; code and stack are the compiler's.

    Raises:
        CompileError: the model doesn't fit, or the source, compiled for this machine, contradicts the reference.
        UsageError: no place for the folder, or the name is no identifier.
        Everything that `edgeq.compile` raises.
    """
    from edgeq.api.static import compile_into
    from edgeq.artifact.layout import write_layout
    from edgeq.artifact.source import write_source
    from edgeq.compiler.fit import fit, require_fit
    from edgeq.compiler.variants import CompiledModel
    from edgeq.evaluate.describe import compile_report

    clock = Clock()
    folder, stem, graph, compiled, quantized = compile_into(
        model, target, output, calib, settings, progress, clock, name=name, ram=ram, fast_ram=fast_ram, layout=layout
    )
    with tempfile.TemporaryDirectory(prefix="edgeq-source-") as scratch:
        files = Path(scratch) / "files"
        with clock.stage("check"):
            sizes = write_source(compiled, files, stem)
            found = fit(compiled, sizes, flash=flash, ram=ram)
            require_fit(found, target.name)
            checked = _check(files, Path(scratch), stem, split=bool(compiled.fast_arena))
        with clock.stage("write"):
            publish(files, folder)
            write_layout(layout, folder, stem, target)
    report = compile_report(graph, CompiledModel([[compiled]]), sizes)
    report |= {"checked": checked, "format": "c", "fit": found.as_dict(), "name": stem}
    report["row_wise"] = asdict(compiled.row_wise) if compiled.row_wise else None
    return CompileResult(folder, target.name, report, quantized, clock.seconds)


def _check(files: Path, scratch: Path, name: str, *, split: bool) -> str:
    """Compiles the source for this machine and runs the golden vectors. Returns "native"; "no" without a compiler."""
    from edgeq.artifact.source import sources
    from edgeq.artifact.tools import cross_compiler, run_tool
    from edgeq.compiler.target import host_arch

    try:
        compiler = cross_compiler(host_arch())
    except (ToolError, KeyError):
        return "no"
    main, program = scratch / "main.c", scratch / "check"
    upper = name.upper()
    parts = (
        {"second": f"{upper}_FAST_ARENA(fast);\n", "arenas": "arena, fast"}
        if split
        else {"second": "", "arenas": "arena"}
    )
    main.write_text(_MAIN.format(name=name, upper=upper, **parts), encoding="utf-8")
    flags = ["-std=c99", "-O1", "-fno-sanitize=all", "-I", str(files)]
    run_tool([*compiler, *flags, *sources(files, name), main, "-o", program], "compiling the C source for a check")
    different = int(run_tool([program], "running the C source's self-check"))
    if different:
        raise CompileError(
            "the C source contradicts the integer reference",
            where="golden vectors, compiled for this machine",
            why=f"{different} bytes of outputs differ",
            hint="this is a defect of edgeq: please report the model",
        )
    return "native"
