"""Second half of a measurement: an integer graph compiled for a target, its sizes, bits, instructions and memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgeq.errors import EdgeqError, RunError, ToolError
from edgeq.report.results import Entry, Place, Step
from edgeq.report.suite import Measure

if TYPE_CHECKING:
    from edgeq.compiler import Compiled, KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.integer import IntegerGraph

Array = NDArray[Any]
ARTIFACT = "model.edgeq"
GOLDEN = 2


def measure_artifact(
    names: tuple[str, str],
    graph_folder: Path,
    targets: Sequence[Target],
    measure: Measure,
    builder: KernelBuilder,
    folder: Path,
) -> Entry:
    """Compile and measure everything that needs no clock.

    Args:
        names: model and policy.
        graph_folder: with `graph.int.onnx` and `agreement.npz` of `measure_graph`.
        targets: what to compile for; several: variants in one artifact, best first, of which the best is described.
        measure: what to measure.
        builder: code generators; used by one measurement at a time.
        folder: gets the artifact.

    Raises:
        CompileError, ToolError: it can't be compiled. Code that contradicts the graph is a result, not an error.
    """
    from edgeq.integer import IntegerGraph
    from edgeq.report.firmware import measure_firmware, single_samples

    graph = IntegerGraph.load(graph_folder / "graph.int.onnx")
    given, expected = read_agreement(graph_folder / "agreement.npz")
    shapes = {name: _shape_of(graph, name) for name in given}
    if targets[0].bare_metal:
        runs = single_samples(given, shapes, measure.agreement_samples)
        return measure_firmware(names, graph, runs, targets[0], measure, builder, folder)
    entry, path = _compile(names, graph, single_samples(given, shapes, GOLDEN), targets, measure, builder, folder)
    _run(entry, path, targets, given, expected)
    if measure.instructions:
        _count(entry, path)
    return entry


def _compile(
    names: tuple[str, str],
    graph: IntegerGraph,
    golden: list[dict[str, Array]],
    targets: Sequence[Target],
    measure: Measure,
    builder: KernelBuilder,
    folder: Path,
) -> tuple[Entry, Path]:
    from edgeq import artifact
    from edgeq.compiler import CompileOptions, ProgramSource, compile_model

    start = time.perf_counter()
    manifest = {"calibrated": graph.calibrated, "source": names[0]}
    options = CompileOptions(measure.max_threads, manifest=manifest)
    model = compile_model([ProgramSource(graph, golden)], targets, options, builder)
    path = folder / ARTIFACT
    sizes = artifact.write_variants(model.variants, model.objects, path)
    entry = Entry(
        model=names[0],
        policy=names[1],
        target=targets[0].name,
        arena=sizes.arena,
        weights=sizes.weights,
        code=sizes.code,
        file=sizes.file,
        compile_seconds=round(time.perf_counter() - start, 3),
        digest=artifact.read(path).digest[:16],
        steps=describe_steps(model.first),
        memory=describe_memory(model.first),
    )
    return entry, path


def read_agreement(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Integer inputs and the outputs they must give, [n, …] by name."""
    with np.load(path, allow_pickle=False) as archive:
        given = {name[3:]: archive[name] for name in archive.files if name.startswith("in:")}
        expected = {name[4:]: archive[name] for name in archive.files if name.startswith("out:")}
    return given, expected


def _shape_of(graph: Any, name: str) -> tuple[int, ...]:
    from edgeq.integer.graph import tensor_type

    return tuple(tensor_type(next(v for v in graph.inputs if v.name == name)).shape)


def describe_steps(compiled: Compiled) -> list[Step]:
    """The kernel calls with the code size of their kernels."""
    return [_step(layer, "+".join(layer["ops"]), layer["name"], layer["macs"]) for layer in compiled.layers]


def _step(layer: Mapping[str, Any], op: str, name: str, macs: int) -> Step:
    return Step(
        name=name,
        op=op,
        macs=macs,
        kernel=layer.get("kernel", ""),
        weight_bytes=layer.get("weights", 0),
        code_bytes=layer.get("code", 0),
    )


def describe_memory(compiled: Compiled) -> list[Place]:
    """Where every buffer lies and when it is alive."""
    from edgeq.compiler.pipeline import memory_map

    return read_memory(memory_map(compiled.program, compiled.plan))


def read_memory(rows: Any) -> list[Place]:
    """Places from a manifest's `memory`; empty where it has none or they are in another form."""
    names = ("name", "role", "offset", "size", "first", "last")
    try:
        return [Place.model_validate(dict(zip(names, row, strict=True))) for row in rows]
    except (ValidationError, ValueError, TypeError):
        return []


def _run(
    entry: Entry, path: Path, targets: Sequence[Target], given: dict[str, Array], expected: dict[str, Array]
) -> None:
    """Golden vectors and agreement samples, natively or under the emulator."""
    native = any(target.runs_here() for target in targets)
    emulator = targets[0].spec.toolchain.emulator
    if not native and not (emulator and shutil.which(emulator)):
        entry.notes.append(f"not run: this processor isn't a {targets[0].name} and no emulator for it is installed")
        return
    from edgeq.evaluate.models import ArtifactModel

    entry.ran = "native" if native else "emulated"
    model = ArtifactModel(path, 1)
    try:
        entry.golden = model.model.verify()
        found = model.run_raw(given)
    except RunError as error:
        entry.disagreement = error.render().replace("\n", " ")
        entry.differing = 1
        return
    entry.agreement_samples = len(next(iter(given.values())))
    entry.differing, entry.disagreement = compare_outputs(found, expected)


def compare_outputs(found: dict[str, Array], expected: dict[str, Array]) -> tuple[int, str | None]:
    """How many values differ, and where the first one is."""
    differing, first = 0, None
    for name, right in expected.items():
        wrong = found[name].reshape(right.shape) != right
        count = int(np.count_nonzero(wrong))
        if count and first is None:
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            value = found[name].reshape(right.shape)[place]
            first = f"output {name}{list(place)} is {value}, the integer graph says {right[place]}"
        differing += count
    return differing, first


def _count(entry: Entry, path: Path) -> None:
    """Instructions of each step, where the emulator can run them; else a note why not."""
    from edgeq.evaluate.instructions import count_instructions

    try:
        counted = count_instructions(path)
    except (RunError, ToolError) as error:
        entry.notes.append(f"instructions not counted: {_reason(error)}")
        return
    entry.instructions, entry.stack = counted.total, counted.stack
    for step, count in zip(entry.steps, counted.steps, strict=True):
        step.instructions = count


def _reason(error: EdgeqError) -> str:
    return (error.why or error.what).splitlines()[0].strip()


def entry_of_file(path: str | Path, *, instructions: bool, repeats: int) -> Entry:
    """What a single artifact tells: sizes, steps, golden vectors, and times where this machine runs it.

    Args:
        path: an artifact of any processor.
        instructions: count them under the emulator.
        repeats: runs to take medians over; 0: no times.

    Raises:
        ArtifactError: not an artifact, truncated or changed.
    """
    from edgeq.artifact.read import read

    found = read(path)
    manifest = found.image.manifest
    layers: Sequence[dict[str, Any]] = manifest.get("layers", ())
    known = layers if len(layers) == len(found.image.steps) else [{}] * len(found.image.steps)
    steps = [_step(row, step.kind, step.name, step.macs) for step, row in zip(found.image.steps, known, strict=True)]
    entry = Entry(
        model=Path(path).name,
        policy="default",
        target=str(manifest.get("target", found.target.arch)),
        arena=found.sizes.arena,
        weights=found.sizes.weights,
        code=found.sizes.code,
        file=found.sizes.file,
        digest=found.digest[:16],
        steps=steps,
        memory=read_memory(manifest.get("memory", ())),
    )
    _verify_file(entry, Path(path), repeats)
    if instructions:
        _count(entry, Path(path))
    return entry


def _verify_file(entry: Entry, path: Path, repeats: int) -> None:
    from edgeq import runtime
    from edgeq.errors import ArtifactError
    from edgeq.runtime.emulate import EmulatedModel

    try:
        model = runtime.load(path)
    except (ToolError, ArtifactError, RunError) as error:
        entry.notes.append(f"not run: {_reason(error)}")
        return
    entry.ran = "emulated" if isinstance(model, EmulatedModel) else "native"
    try:
        entry.golden = model.verify()
    except RunError as error:
        entry.differing, entry.disagreement = 1, error.render().replace("\n", " ")
    if repeats and entry.ran == "native":
        found = model.profile(repeats=repeats)
        entry.seconds = found.total_median_ns * 1e-9
        for step, timed in zip(entry.steps, found.steps, strict=True):
            step.seconds = timed.median_ns * 1e-9
