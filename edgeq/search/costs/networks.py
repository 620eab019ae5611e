"""Networks whose steps are measured, for a target: compiled, or only planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.search.space import Form

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder
    from edgeq.compiler.program import Program
    from edgeq.compiler.target import Target
    from edgeq.integer import IntegerGraph


@dataclass(frozen=True)
class Step:
    """A kernel call.

    Attributes:
        name: its layer. kernel: symbol, which says shapes and code. family: of kernels.
        macs: multiply-accumulates. touched: bytes of activations and constants. weights: bytes of constants.
        bits: of the form the network is in. estimate: the compiler's own, None where it makes none.
    """

    name: str
    kernel: str
    family: str
    macs: int
    touched: int
    weights: int
    bits: int
    estimate: float | None


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        form: of all weights. steps: in order. arena: bytes of activations and scratch.
        path: of the artifact; None where it has no loader or was only planned.
        compiled: None where it was only planned.
    """

    form: Form
    steps: list[Step]
    arena: int
    path: Path | None = None
    compiled: Compiled | None = None


def compile_network(
    graph: IntegerGraph, form: Form, target: Target, folder: Path, builder: KernelBuilder | None
) -> Network:
    """Compile a graph and, where the target has a loader, write its artifact into a folder."""
    from edgeq import artifact
    from edgeq.compiler import CompileOptions, compile_graph

    compiled = compile_graph(graph, target, CompileOptions(max_threads=1), builder)
    path = None
    if has_loader(target):
        path = folder / f"{len(list(folder.iterdir()))}-{target.name}.edgeq"
        artifact.write(compiled.image, compiled.objects, compiled.arch, path)
    return Network(form, _steps(compiled.program, target, form.bits), compiled.image.arena_size, path, compiled)


def plan_network(graph: IntegerGraph, form: Form, target: Target) -> Network:
    """Choose kernels and places, and generate nothing: it takes a second where compiling takes a minute."""
    from edgeq.compiler.lower.lower import lower
    from edgeq.compiler.plan import plan_memory

    program = lower(graph, target, 1)
    arena = max(plan_memory(program).size + program.end_slack, program.alignment)
    return Network(form, _steps(program, target, form.bits), arena)


def has_loader(target: Target) -> bool:
    """Whether an artifact can be written; else there is a library or a module."""
    return not (target.bare_metal or target.webassembly)


def _steps(program: Program, target: Target, bits: int) -> list[Step]:
    found = []
    for step in program.steps:
        touched = {b for b in (*step.reads, *step.writes) if program.buffers[b].role != "scratch"}
        constants = {a.buffer for a in step.arguments if a.region == "weights"}
        weights = sum(program.constants[i].nbytes for i in constants)
        spec: Any = step.spec
        cost = getattr(spec, "cost", None)
        found.append(
            Step(
                step.name,
                spec.symbol(target),
                spec.family,
                step.macs,
                weights + sum(program.buffers[b].size for b in touched),
                weights,
                bits,
                float(cost(target)) if cost else None,
            )
        )
    return found
