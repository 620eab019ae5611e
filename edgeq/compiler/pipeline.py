"""Integer graph in, linkable artifact out: prove, lower, plan, build kernels, compile the entry, gather the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact.format import ArchInfo, Golden, ModelImage, StepInfo, TensorInfo
from edgeq.artifact.tools import object_compiler, run_tool
from edgeq.cache import cached_file, content_key
from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.entry import entry_source
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.plan import Plan
from edgeq.compiler.program import Bound, Program, Step, Tensor
from edgeq.compiler.rows.search import Found, RowWise, place_within
from edgeq.compiler.schedule import Schedule
from edgeq.compiler.target import Target
from edgeq.compiler.weights import WeightPool
from edgeq.integer import prove, reference
from edgeq.integer.graph import IntegerGraph

NUMPY_DTYPES = {"s8": "int8", "u8": "uint8", "s16": "int16", "s32": "int32", "s64": "int64"}
ENTRY_FLAGS = [
    "-O2",
    "-fPIC",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fvisibility=hidden",
    "-g0",
]
GOLDEN_SEED = 20
_EXECUTABLE = 4
_UNUSED_CODE = ".text.tvm.fp16.conv"  # TVM puts them into every object, the linker drops them


@dataclass(frozen=True)
class CompileOptions:
    """What the caller may choose.

    Attributes:
        max_threads: slots of scratch memory in the arena; more threads than that can't run one model at once.
        golden_inputs: integer input sets ({input name: array}) whose outputs go into the artifact for self-checks;
            empty: one seeded random set.
        golden: vectors whose outputs are known already, instead of `golden_inputs`.
        entry: symbol of the program's `edgeq_step_fn`.
        manifest: entries of the caller for the artifact's manifest (source, policy, calibration ...).
        progress: called with (stage, done, total).
        weights: how dense layers store weights of 4 bits and less: `fast`: a byte each; `small`: packed, expanded while
            the kernel runs; `auto`: packed where that costs little time.
        schedule: measured choices of kernels for one target; None: the estimates decide.
        arena_limit: bytes; where more is needed, dense layers do without scratch memory (Winograd), and if that isn't
            enough layers run row-wise (`edgeq.compiler.rows`).
            Exceeding it is no error here: `Compiled.nearest_arena` says what could be had.
        fast_room: bytes of a second, fast memory for the hottest buffers (`edgeq.compiler.hot`); 0: one arena.
    """

    max_threads: int = 4
    golden_inputs: Sequence[Mapping[str, np.ndarray]] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[str, int, int], None] | None = None
    weights: Storage = "auto"
    schedule: Schedule | None = None
    golden: Sequence[Golden] = ()
    entry: str = "edgeq_step"
    arena_limit: int | None = None
    fast_room: int = 0

    def schedule_for(self, target: Target) -> Schedule | None:
        """The schedule, if it was measured on this target."""
        return self.schedule if self.schedule and self.schedule.target == target.name else None


@dataclass
class Compiled:
    """Everything `edgeq.artifact.write` needs, and what a report wants to know.

    Attributes:
        layers: one entry per step: name, ops, kernel, macs, tasks, bytes.
        weight_offsets: where each of the program's constants begins in the image's weights.
        arena_lower_bound: bytes alive at the fullest step; no plan can need less.
        row_wise: which layers run row-wise, and what that brought and costs; None: none of them.
        nearest_arena: the smallest arena that running layers row-wise could reach, where a limit asked for it.
    """

    target: Target
    image: ModelImage
    objects: list[Path]
    program: Program
    plan: Plan
    layers: list[dict[str, Any]]
    weight_offsets: list[int]
    row_wise: RowWise | None = None
    nearest_arena: int | None = None

    @property
    def arch(self) -> ArchInfo:
        """What the loader checks; only where there is a loader."""
        return ArchInfo(self.target.arch, tuple(self.target.spec.cpu_features))

    @property
    def fast_arena(self) -> int:
        """Bytes of the second arena, in fast memory; 0: there is none."""
        return self.program.fast_arena(self.plan.fast_size)

    @property
    def arena_lower_bound(self) -> int:
        return self.plan.lower_bound

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(step.macs for step in self.program.steps)


def compile_graph(
    graph: IntegerGraph,
    target: Target,
    options: CompileOptions | None = None,
    builder: KernelBuilder | None = None,
    pool: WeightPool | None = None,
) -> Compiled:
    """Compiles an integer graph for one target.

    Args:
        graph: integer graph; its overflow proofs are evaluated here.
        target: from `load_target`.
        builder: a pool that is already warm; a fresh one is made otherwise.
        pool: constants of an artifact's other programs, to share; the image's `weights` hold all that is in it by then.

    Raises:
        CompileError: a proof fails, an op has no kernel, or code generation fails; names the layer.
        ToolError: no C compiler or linker.
    """
    options = options or CompileOptions()
    prove(graph)
    schedule = options.schedule_for(target)
    lowered = partial(
        lower,
        target=target,
        max_threads=options.max_threads,
        storage=options.weights,
        schedule=schedule,
        fast_room=options.fast_room,
    )
    report = partial(options.progress, "rows") if options.progress else None
    found = place_within(graph, lowered, options.arena_limit, partial(lowered, lean=True), report)
    program, plan = found.placed.program, found.placed.plan
    objects = _build_kernels(program, target, options, builder)
    pool = pool or WeightPool(program.alignment)
    offsets = pool.add(program.constants)
    if not (target.bare_metal or target.webassembly):
        objects.append(_build_entry(entry_source(program, plan, offsets, target, options.entry), target))
    sizes = kernel_sizes(objects, target)
    layers = [_layer(step, program, target, sizes) for step in program.steps]
    image = ModelImage(
        steps=[
            StepInfo(x["name"], "+".join(x["ops"]), x["tasks"], x["macs"], x["bytes"], step.grain)
            for x, step in zip(layers, program.steps, strict=True)
        ],
        inputs=[_tensor(t, plan) for t in program.inputs],
        outputs=[_tensor(t, plan) for t in program.outputs],
        arena_size=found.placed.arena,
        weights=pool.blob(),
        max_threads=options.max_threads,
        manifest=_manifest(target, found, layers, options),
        golden=list(options.golden) or _golden(graph, program, options),
        entry=options.entry,
    )
    return Compiled(target, image, objects, program, plan, layers, offsets, found.row_wise, found.nearest)


def _build_kernels(
    program: Program, target: Target, options: CompileOptions, builder: KernelBuilder | None
) -> list[Path]:
    report = options.progress
    progress = (lambda done, total: report("kernels", done, total)) if report else None
    specs = [step.spec for step in program.steps]
    if builder is not None:
        return builder.build(specs, target, progress)
    with KernelBuilder() as own:
        return own.build(specs, target, progress)


def _build_entry(source: str, target: Target) -> Path:
    command = object_compiler(target.arch)

    def build(made: Path) -> None:
        code = made.with_suffix(".c")
        code.write_text(source, encoding="utf-8")
        try:
            run_tool([*command, *ENTRY_FLAGS, "-c", code, "-o", made], "compiling the entry function")
        finally:
            code.unlink(missing_ok=True)

    return cached_file("entries", "entry.o", content_key([source, *command[1:], *ENTRY_FLAGS]), build)


def memory_map(program: Program, plan: Plan) -> list[list[Any]]:
    """Where every buffer, or part of one, lies and when.

    [name, role, offset, size, first step, last step]; −1: before the first step.
    """
    last = len(program.steps)
    return [
        [
            program.buffers[life.index].name,
            program.buffers[life.index].role,
            plan.offsets[life.index] + life.start,
            life.size,
            life.first,
            min(life.last, last),
        ]
        for life in plan.lifetimes
    ]


def kernel_sizes(objects: Sequence[Path], target: Target) -> dict[str, int]:
    """Kernel → bytes of machine code; objects are named after kernels and a digest."""
    return {path.stem.rpartition("_")[0]: _code_size(path.read_bytes(), target) for path in objects}


def _code_size(data: bytes, target: Target) -> int:
    from edgeq.artifact import elf32, wasm

    if target.webassembly:
        return wasm.code_size(data)
    if target.emits_c:
        return 0  # the user's compiler decides
    sections = elf32.sections(data)
    return sum(s.size for s in sections if s.flags & _EXECUTABLE and s.name != _UNUSED_CODE)


def _layer(step: Step, program: Program, target: Target, sizes: Mapping[str, int]) -> dict[str, Any]:
    constants = {a.buffer for a in step.arguments if a.region == "weights"}
    weights = sum(program.constants[i].nbytes for i in constants)
    return {
        "name": step.name,
        "ops": list(step.ops),
        "kernel": step.spec.symbol(target),
        "code": sizes.get(step.spec.symbol(target), 0),
        "tasks": step.spec.tasks(),
        "macs": step.macs,
        "weights": weights,
        "weight_bits": step.spec.stored_bits(target),
        "bytes": weights + step.moved,
        "mix": step.spec.mix(target),
    }


def _step_info(layer: Mapping[str, Any], step: Step) -> StepInfo:
    ops = "+".join(layer["ops"])
    return StepInfo(layer["name"], ops, layer["tasks"], layer["macs"], layer["bytes"], step.grain)


def _tensor(tensor: Tensor, plan: Plan) -> TensorInfo:
    view = tensor.view
    bound = Bound("arena", view.buffer, view.byte_offset())
    return TensorInfo(
        name=tensor.name,
        dtype=NUMPY_DTYPES[tensor.graph_dtype],
        shape=view.shape,
        offset=plan.offsets[bound.buffer] + bound.byte_offset,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )


def _golden(graph: IntegerGraph, program: Program, options: CompileOptions) -> list[Golden]:
    sets = list(options.golden_inputs) or [random_inputs(program)]
    names_in, names_out = [t.name for t in program.inputs], [t.name for t in program.outputs]
    vectors = []
    for inputs in sets:
        outputs = reference.run(graph, dict(inputs))
        vectors.append(Golden([inputs[n] for n in names_in], [outputs[n] for n in names_out]))
    return vectors


def random_inputs(program: Program, seed: int = GOLDEN_SEED) -> dict[str, np.ndarray]:
    """Integers over the whole range of every input; the same for the same seed."""
    rng = np.random.default_rng(seed)
    result = {}
    for tensor in program.inputs:
        info = np.iinfo(NUMPY_DTYPES[tensor.graph_dtype])
        result[tensor.name] = rng.integers(info.min, info.max, tensor.view.shape, dtype=info.dtype, endpoint=True)
    return result


def _fast(program: Program, plan: Plan) -> dict[str, Any] | None:
    """The second arena and which rows of `memory` lie in it."""
    if not plan.fast:
        return None
    return {
        "room": program.fast_room,
        "size": program.fast_arena(plan.fast_size),
        "buffers": [k for k, life in enumerate(plan.lifetimes) if life.index in plan.fast],
    }


def _manifest(target: Target, found: Found, layers: list[dict[str, Any]], options: CompileOptions) -> dict[str, Any]:
    from edgeq import __version__

    program, plan = found.placed.program, found.placed.plan
    return {
        "edgeq": __version__,
        "target": target.name,
        "arch": target.arch,
        "cpu_features": list(target.spec.cpu_features),
        "arena": {"size": plan.size, "lower_bound": plan.lower_bound},
        "macs": sum(layer["macs"] for layer in layers),
        "schedule": schedule.digest() if (schedule := options.schedule_for(target)) else None,
        "layers": layers,
        "memory": memory_map(program, plan),
        "row_wise": asdict(found.row_wise) if found.row_wise else None,
        "nearest_arena": found.nearest,
        "lean": found.lean,
        "fast": _fast(program, plan),
        **options.manifest,
    }
