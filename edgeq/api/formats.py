"""The kinds of products that `edgeq.compile` writes, and which of them a target takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.api.result import CompileResult
    from edgeq.compiler.target import Target

C_TARGET = "c99"  # of format "c" where no other target is named


def format_for(wanted: str | None, target: Target) -> str:
    """The kind of file to write: as asked for, or as the target needs."""
    needed = _needed_format(target)
    if wanted not in (None, "edgeq", "static", "c", "wasm"):
        raise UsageError("unknown format", where=str(wanted), hint="edgeq, static, c or wasm")
    if wanted in (None, needed) or (wanted == "static" and needed == "edgeq"):
        return wanted or needed
    if wanted == "c":
        raise UsageError(
            "this target's code comes from LLVM, not from C",
            where=f"target {target.name}",
            hint=f'leave --target out, or name one with kind = "c": {C_TARGET}',
        )
    if wanted == "edgeq":
        raise UsageError(
            "this target has no loader for artifacts", where=f"target {target.name}", hint="leave --format out"
        )
    raise UsageError(f"this target has no format {wanted!r}", where=f"target {target.name}", hint="leave --format out")


def folder_writer(kind: str) -> Callable[..., CompileResult]:
    """What makes the folder of a static library or of C source."""
    if kind == "c":
        from edgeq.api.source import compile_source

        return compile_source
    from edgeq.api.static import compile_static

    return compile_static


def _needed_format(target: Target) -> str:
    if target.emits_c:
        return "c"
    return "static" if target.bare_metal else "wasm" if target.webassembly else "edgeq"
