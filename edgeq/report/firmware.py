"""Measuring a microcontroller: the static library on its emulated board, counted and compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import RunError, ToolError
from edgeq.report.results import Entry
from edgeq.report.suite import Measure

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.integer import IntegerGraph

Array = NDArray[Any]


def measure_firmware(
    names: tuple[str, str],
    graph: IntegerGraph,
    samples: Sequence[dict[str, Array]],
    target: Target,
    measure: Measure,
    builder: KernelBuilder,
    folder: Path,
) -> Entry:
    """Compile for a microcontroller, write the library, run the samples on the emulated board.

    Args:
        names: model and policy. graph: of the model.
        samples: integer inputs of single runs; their outputs on the board must be the graph's.
        target: without an operating system. measure: what to measure.
        builder: code generators. folder: gets the library.

    Raises:
        CompileError: it can't be compiled, or doesn't fit the target's memories.
    """
    from edgeq.artifact.static import write_static
    from edgeq.compiler import CompileOptions, compile_graph
    from edgeq.report.artifacts import describe_memory, describe_steps

    start = time.perf_counter()
    options = CompileOptions(1, samples, {"calibrated": graph.calibrated, "source": names[0]})
    compiled = compile_graph(graph, target, options, builder)
    sizes = write_static(compiled, folder, "model")
    entry = Entry(
        model=names[0],
        policy=names[1],
        target=target.name,
        arena=sizes.arena,
        stack=sizes.stack,
        weights=sizes.weights,
        code=sizes.code,
        file=sizes.code + sizes.weights,
        compile_seconds=round(time.perf_counter() - start, 3),
        digest=_digest(folder),
        steps=describe_steps(compiled),
        memory=describe_memory(compiled),
    )
    _run(entry, compiled, measure)
    return entry


def _run(entry: Entry, compiled: Compiled, measure: Measure) -> None:
    """Bits and instructions on the board; why not, where there is none."""
    from edgeq.evaluate.firmware import run_firmware

    try:
        run = run_firmware(compiled)
    except ToolError as error:
        entry.notes.append(f"not run: {error.what}")
        return
    except RunError as error:
        entry.differing, entry.disagreement = 1, error.render().replace("\n", " ")
        return
    entry.ran, entry.golden = "emulated", run.runs
    entry.agreement_samples, entry.differing = run.runs, run.different
    if run.different:
        entry.disagreement = f"{run.different} bytes of the outputs of {run.runs} samples"
    if measure.instructions:
        entry.instructions = run.total
        for step, count in zip(entry.steps, run.steps, strict=True):
            step.instructions = count


def single_samples(given: dict[str, Array], shapes: dict[str, tuple[int, ...]], count: int) -> list[dict[str, Array]]:
    """The first runs' inputs in the graph's own shapes."""
    runs = min(len(x) // max(1, shapes[name][0]) for name, x in given.items())
    return [
        {
            name: np.ascontiguousarray(x[i * shapes[name][0] : (i + 1) * shapes[name][0]].reshape(shapes[name]))
            for name, x in given.items()
        }
        for i in range(min(count, runs))
    ]


def _digest(folder: Path) -> str:
    """Of all files of the library."""
    from edgeq.cache import content_key

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return content_key(part for path in files for part in (path.name, path.read_bytes()))[:16]
