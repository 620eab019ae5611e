"""Several programs in one artifact: a model at several input shapes, each for several kinds of CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq.artifact.format import Variant
from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.fit import memory_by_step
from edgeq.compiler.pipeline import Compiled, CompileOptions, compile_graph
from edgeq.compiler.target import Target
from edgeq.compiler.weights import WeightPool
from edgeq.errors import CompileError
from edgeq.integer.graph import IntegerGraph


@dataclass(frozen=True)
class ProgramSource:
    """The model at one set of input shapes.

    Attributes:
        graph: its integer graph.
        golden_inputs: as in `CompileOptions`.
    """

    graph: IntegerGraph
    golden_inputs: Sequence[Mapping[str, np.ndarray]] = ()


@dataclass(frozen=True)
class CompiledModel:
    """Everything `edgeq.artifact.write_variants` needs.

    Attributes:
        programs: [variant][program], in the order of the targets and of the sources.
    """

    programs: list[list[Compiled]]

    @property
    def variants(self) -> list[Variant]:
        """What becomes the artifact's images."""
        return [Variant(row[0].arch, [compiled.image for compiled in row]) for row in self.programs]

    @property
    def objects(self) -> list[Path]:
        """Kernels and entries, each once: programs share the kernels that are the same."""
        return list(dict.fromkeys(path for row in self.programs for compiled in row for path in compiled.objects))

    @property
    def first(self) -> Compiled:
        """The first program of the best variant."""
        return self.programs[0][0]

    def require_arena(self, limit: int | None) -> None:
        """Checks that every program's arena stays below a limit in bytes.

        Raises:
            CompileError: one doesn't; says where the most is needed and what could be had.
        """
        for compiled in (compiled for row in self.programs for compiled in row):
            arena = compiled.image.arena_size
            if limit is None or arena <= limit:
                continue
            alive = memory_by_step(compiled.program, compiled.plan)
            fullest = max(range(len(alive)), key=alive.__getitem__)
            raise CompileError(
                f"the model needs {arena - limit} bytes more RAM than there are",
                where=f"target {compiled.target.name}, layer {compiled.program.steps[fullest].name!r}",
                why=f"its arena takes {arena} bytes of {limit}; at that layer {alive[fullest]} are alive",
                hint=f"the least that running layers row-wise could reach is {compiled.nearest_arena} bytes"
                + (", fewer threads take less" if compiled.image.max_threads > 1 else ""),
            )


def compile_model(
    sources: Sequence[ProgramSource],
    targets: Sequence[Target],
    options: CompileOptions | None = None,
    builder: KernelBuilder | None = None,
    *,
    pads: bool = False,
) -> CompiledModel:
    """Compiles a model at every shape for every kind of CPU.

    Args:
        sources: one per program.
        targets: one per variant, best first; of one architecture.
        options: golden inputs are the sources'.
        builder: as for `compile_graph`.
        pads: shorter inputs may be padded with zeros (`EDGEQ_IMAGE_PADS`).

    Raises:
        CompileError, ToolError: see `compile_graph`.
    """
    options = options or CompileOptions()
    pool = WeightPool()
    single = len(targets) * len(sources) == 1
    rows: list[list[Compiled]] = []
    for variant, target in enumerate(targets):
        row = []
        for program, source in enumerate(sources):
            # Every variant computes the same bits: the reference runs once per program.
            golden = rows[0][program].image.golden if rows else ()
            chosen = replace(
                options,
                golden_inputs=source.golden_inputs,
                golden=golden,
                entry=options.entry if single else f"{options.entry}_{variant}_{program}",
            )
            row.append(compile_graph(source.graph, target, chosen, builder, pool))
        rows.append(row)
    weights = pool.blob()
    for compiled in (compiled for row in rows for compiled in row):
        compiled.image.weights = weights
        compiled.image.pads = pads
    return CompiledModel(rows)
