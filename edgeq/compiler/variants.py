"""Several programs in one artifact: a model at several input shapes, each for several kinds of CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq.artifact.format import Variant
from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.pipeline import Compiled, CompileOptions, compile_graph
from edgeq.compiler.target import Target
from edgeq.compiler.weights import WeightPool
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
