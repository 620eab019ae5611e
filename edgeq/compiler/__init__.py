"""From an integer graph to kernels, a memory plan and an artifact for one target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeq.compiler.build import KernelBuilder
    from edgeq.compiler.pipeline import Compiled, CompileOptions, compile_graph
    from edgeq.compiler.target import Target, list_targets, load_target, load_variants
    from edgeq.compiler.variants import CompiledModel, ProgramSource, compile_model

__all__ = [
    "CompileOptions",
    "Compiled",
    "CompiledModel",
    "KernelBuilder",
    "ProgramSource",
    "Target",
    "compile_graph",
    "compile_model",
    "list_targets",
    "load_target",
    "load_variants",
]

_HOMES = {
    "KernelBuilder": "build",
    "CompileOptions": "pipeline",
    "Compiled": "pipeline",
    "compile_graph": "pipeline",
    "Target": "target",
    "list_targets": "target",
    "load_target": "target",
    "load_variants": "target",
    "CompiledModel": "variants",
    "ProgramSource": "variants",
    "compile_model": "variants",
}


def __getattr__(name: str) -> Any:
    # Listing targets must not import the graph libraries.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"edgeq.compiler.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'edgeq.compiler' has no attribute {name!r}")
