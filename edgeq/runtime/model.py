"""A loaded artifact: what every way of running it has in common, and the way for this machine."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.artifact.format import MAX_THREADS, ModelImage, StepInfo, TensorInfo
from edgeq.artifact.read import Artifact, read
from edgeq.errors import ArtifactError, RunError
from edgeq.runtime import native
from edgeq.runtime.arrays import Array, Inputs, empty_outputs, name_outputs, prepare
from edgeq.runtime.lengths import Choice, choose, cut_outputs

_ALIGNMENT = 64


@dataclass(frozen=True)
class StepTime:
    """How long one step took, in nanoseconds, over all repeats."""

    step: StepInfo
    median_ns: float
    min_ns: float


@dataclass(frozen=True)
class Profile:
    """Times per step; `total_*` are of whole runs, so a little more than the sum of the steps."""

    steps: list[StepTime]
    total_median_ns: float
    total_min_ns: float
    repeats: int
    threads: int


class Model:
    """An artifact that can be run. Made by `edgeq.runtime.load`.

    Attributes:
        artifact: everything the file tells about itself.
    """

    def __init__(self, artifact: Artifact, variant: int = 0, program: int | None = None) -> None:
        self.artifact, self.variant, self.program = artifact, variant, program

    @property
    def image(self) -> ModelImage:
        """The program that this model describes: the first, where it stands for all of a variant."""
        return self.artifact.variants[self.variant].programs[self.program or 0]

    @property
    def programs(self) -> list[Model]:
        """A model for each program, that is for each set of input shapes the artifact was compiled for."""
        return [self.select(program=index) for index in range(len(self._images))]

    @property
    def _images(self) -> Sequence[ModelImage]:
        """The programs that this model stands for."""
        return self.artifact.variants[self.variant].programs if self.program is None else [self.image]

    def select(self, *, variant: int | None = None, program: int | None = None) -> Model:
        """The same artifact, as one variant (for one kind of CPU) or one program (for one set of shapes) of it.

        Raises:
            RunError: there is none of that number. ArtifactError: this CPU can't run that variant.
        """
        chosen = self.variant if variant is None else variant
        part = self.program if program is None else program
        variants = self.artifact.variants
        if not 0 <= chosen < len(variants) or not 0 <= (part or 0) < len(variants[chosen].programs):
            counts = f"{len(variants)} variants of {len(variants[0].programs)} programs"
            raise RunError(f"no variant {chosen} with a program {part or 0}", why=f"the artifact has {counts}")
        return self._selected(chosen, part)

    def _selected(self, variant: int, program: int | None) -> Model:
        raise NotImplementedError

    @property
    def inputs(self) -> list[TensorInfo]:
        """Name, dtype, shape, scale and zero point of the inputs."""
        return self.image.inputs

    @property
    def outputs(self) -> list[TensorInfo]:
        """The same of the outputs."""
        return self.image.outputs

    @property
    def steps(self) -> list[StepInfo]:
        """The kernel calls, in order."""
        return self.image.steps

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the compiler wrote about the model."""
        return self.image.manifest

    def run(self, inputs: Inputs, *, threads: int = 1, dequantize: bool | None = None) -> dict[str, Array]:
        """Runs the model once.

        Args:
            inputs: one array, {name: array}, or a sequence in the order of the inputs; shapes exactly as in `inputs`,
                or as in those of another of the `programs`. Where the artifact allows it (`image.pads`), shorter ones
                are padded with zeros, the attention mask too, and the outputs cut back to their length.
                Floats are real values and get quantized: q = clip(rint(x / scale) + zero_point). Integers must have
                the input's dtype and are taken as they are.
            threads: 1 to 64, the caller's included; results don't depend on it.
            dequantize: True: outputs as float32 real values; False: as integers; None: floats if an input was one.

        Returns:
            {output name: array}.

        Raises:
            RunError: inputs that don't fit, or a step that refuses.
        """
        return self._run_chosen(inputs, False, threads, 1, dequantize)

    def run_batch(
        self, inputs: Inputs, *, threads: int = 1, workers: int = 1, dequantize: bool | None = None
    ) -> dict[str, Array]:
        """Runs the model on many samples, one after the other, in C.

        Args:
            inputs: as for `run`, with samples in front: [N, *shape], or [N * B, *shape[1:]] where the model's own
                leading axis is B.
            threads: that share each run.
            workers: runs at the same time, each with an arena of its own.
            dequantize: as for `run`.

        Returns:
            {output name: array}, samples in front in the same way.
        """
        return self._run_chosen(inputs, True, threads, workers, dequantize)

    def _run_chosen(
        self, inputs: Inputs, batched: bool, threads: int, workers: int, dequantize: bool | None
    ) -> dict[str, Array]:
        choice = choose(inputs, self._images, batched=batched)
        model = self._for(choice)
        batch = prepare(choice.inputs, model.inputs, batched=batched)
        as_float = batch.is_float if dequantize is None else dequantize
        outputs = model._execute(batch.arrays, batch.runs, as_float, threads, workers)
        named = name_outputs(outputs, model.outputs, batched=batched, is_merged=batch.is_merged)
        return cut_outputs(named, model.outputs, choice.cuts) if choice.cuts else named

    def _for(self, choice: Choice) -> Model:
        """The program that was chosen."""
        return self if len(self._images) == 1 else self.select(program=choice.program)

    def _one(self, inputs: Inputs | None) -> tuple[Model, list[Array]]:
        """The program for one run's inputs and its arrays [1, *shape] in order; None: the first, with zeros."""
        if inputs is None:
            return self, [np.zeros((1, *t.shape), t.numpy_dtype) for t in self.inputs]
        choice = choose(inputs, self._images, batched=False)
        model = self._for(choice)
        return model, list(prepare(choice.inputs, model.inputs, batched=False).arrays)

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        """Dense outputs [runs, *shape] of dense inputs [runs, *shape]."""
        raise NotImplementedError

    def verify(self, *, threads: int = 1) -> int:
        """Runs the golden vectors of every program, in every variant that this CPU can run; returns how many there are.

        Raises:
            RunError: an output value differs.
        """
        raise NotImplementedError

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        """Times every step. `inputs` as for `run`; None: zeros."""
        raise NotImplementedError

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        """Nanoseconds of each of `repeats` whole runs, without moving data in and out, after one to warm up."""
        raise NotImplementedError


def check_threads(threads: int) -> None:
    """Raises `RunError` unless `threads` is 1 to 64."""
    if not 1 <= threads <= MAX_THREADS:
        raise RunError(f"{threads} threads", why=f"1 to {MAX_THREADS} are possible")


class _Session:
    """A context with its arena: one run at a time."""

    def __init__(self, owner: NativeModel, memory: Array | None = None) -> None:
        self.lib = owner.lib
        self.context = native.Context()
        size = int(self.lib.edgeq_arena_size(ctypes.byref(owner.handle)))
        self.memory = np.empty(size + _ALIGNMENT, np.uint8) if memory is None else memory
        start = int(self.memory.ctypes.data)
        arena = start + -start % _ALIGNMENT
        status = self.lib.edgeq_context_init(ctypes.byref(self.context), ctypes.byref(owner.handle), arena, size, None)
        self.check(status)

    def check(self, status: int) -> None:
        """Raises the error of a failed call."""
        if status:
            raise native.failure(status, self.context.detail, None)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], runs: int, pool: int | None) -> None:
        """All `runs`, from and into dense arrays."""
        self.context.pool = pool
        groups = [
            (native.BatchArray * max(len(arrays), 1))(
                *(native.BatchArray(array.ctypes.data, array.dtype.kind == "f", 0) for array in arrays)
            )
            for arrays in (inputs, outputs)
        ]
        self.check(self.lib.edgeq_run_batch(ctypes.byref(self.context), runs, *groups))


class NativeModel(Model):
    """An artifact for this machine, mapped into this process. Safe to use from several threads: they take turns."""

    def __init__(self, path: Path) -> None:
        self.lib = native.load_library()
        self.handle = native.Model()
        status = self.lib.edgeq_model_load(ctypes.byref(self.handle), os.fsencode(path), None)
        if status:
            raise native.failure(status, self.handle.detail, str(path))
        self._pools: dict[int, int] = {}
        weakref.finalize(self, _free, self.lib, self.handle, self._pools, os.getpid())
        super().__init__(read(path, check_digest=False), int(self.handle.variant))
        self._lock = threading.Lock()
        self._origin: NativeModel = self
        self._views: dict[tuple[int, int | None], NativeModel] = {(self.variant, None): self}
        self._session = _Session(self)

    def _selected(self, variant: int, program: int | None) -> NativeModel:
        key = variant, program
        if key not in self._views:
            self._views[key] = _view(self, variant, program)
        return self._views[key]

    def _memory_for(self, view: NativeModel) -> Array | None:
        """The arena's memory, if the view's programs fit into it: those of another variant may need more."""
        needed = int(self.lib.edgeq_arena_size(ctypes.byref(view.handle)))
        return self._session.memory if needed + _ALIGNMENT <= self._session.memory.nbytes else None

    def _pool(self, threads: int) -> int | None:
        check_threads(threads)
        if threads == 1:
            return None
        if threads not in self._pools:
            pool = ctypes.c_void_p()
            status = self.lib.edgeq_pool_create(ctypes.byref(pool), threads)
            if status or pool.value is None:
                raise native.failure(status, b"", None)
            self._pools[threads] = pool.value
        return self._pools[threads]

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        outputs = empty_outputs(self.outputs, runs, as_float)
        workers = max(1, min(workers, runs))
        if workers == 1:
            with self._lock:
                self._session.run(arrays, outputs, runs, self._pool(threads))
            return outputs
        if threads != 1:
            raise RunError("several workers with several threads each", hint="choose one of the two")
        edges = [runs * worker // workers for worker in range(workers + 1)]

        def part(begin: int, end: int) -> None:
            ins, outs = ([array[begin:end] for array in group] for group in (arrays, outputs))
            _Session(self).run(ins, outs, end - begin, None)

        with ThreadPoolExecutor(workers) as executor:
            for done in [executor.submit(part, *span) for span in itertools.pairwise(edges)]:
                done.result()
        return outputs

    def verify(self, *, threads: int = 1) -> int:
        total = 0
        for variant in self._variants_here():
            for index in range(len(self._images)):
                total += variant._selected(variant.variant, self.program or index)._verify_one(threads)
        return total

    def _variants_here(self) -> list[NativeModel]:
        """This model in every variant that the CPU can run, if it stands for what was loaded; else in its own."""
        if self._origin is not self:
            return [self]
        found = []
        for index in range(len(self.artifact.variants)):
            try:
                found.append(self._selected(index, self.program))
            except ArtifactError:
                continue  # another CPU's: the loader has found one for this CPU
        return found

    def _verify_one(self, threads: int) -> int:
        count = ctypes.c_uint32()
        with self._lock:
            self._session.context.pool = self._pool(threads)
            self._session.check(self.lib.edgeq_verify(ctypes.byref(self._session.context), ctypes.byref(count)))
        return count.value

    def _fill(self, arrays: Sequence[Array], threads: int) -> None:
        """Runs once, so that code, caches and pool are warm. Later runs start from what this one left of the inputs,
        which changes no time: integer kernels don't look at values."""
        self._session.run(arrays, empty_outputs(self.outputs, 1, False), 1, self._pool(threads))

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        model, arrays = self._one(inputs)
        assert isinstance(model, NativeModel)
        return model._profile(arrays, repeats, threads)

    def _profile(self, arrays: Sequence[Array], repeats: int, threads: int) -> Profile:
        times = np.zeros((_positive(repeats), len(self.steps)), np.uint64)
        totals = np.zeros(repeats)
        with self._lock:
            self._fill(arrays, threads)
            for index in range(repeats):
                before = self.lib.edgeq_clock_ns()
                self._session.check(
                    self.lib.edgeq_run_profiled(ctypes.byref(self._session.context), times[index].ctypes.data)
                )
                totals[index] = self.lib.edgeq_clock_ns() - before
        medians, least = np.median(times, axis=0), times.min(axis=0)
        steps = [StepTime(s, float(m), float(b)) for s, m, b in zip(self.steps, medians, least, strict=True)]
        return Profile(steps, float(np.median(totals)), float(totals.min()), repeats, threads)

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        model, arrays = self._one(inputs)
        assert isinstance(model, NativeModel)
        return model._measure(arrays, repeats, threads)

    def _measure(self, arrays: Sequence[Array], repeats: int, threads: int) -> Array:
        times = np.zeros(_positive(repeats))
        with self._lock:
            self._fill(arrays, threads)
            for index in range(repeats):
                before = self.lib.edgeq_clock_ns()
                self._session.check(self.lib.edgeq_run(ctypes.byref(self._session.context)))
                times[index] = self.lib.edgeq_clock_ns() - before
        return times


def _view(origin: NativeModel, variant: int, program: int | None) -> NativeModel:
    """A loaded model's variant, or one program of it: the same mapping, lock, threads and memory."""
    view = NativeModel.__new__(NativeModel)
    Model.__init__(view, origin.artifact, variant, program)
    view.lib, view.handle = origin.lib, native.Model()
    view._origin, view._pools, view._lock, view._views = origin._origin, origin._pools, origin._lock, origin._views
    loaded, own = ctypes.byref(view._origin.handle), ctypes.byref(view.handle)
    status = view.lib.edgeq_variant(own, loaded, variant)
    if status == 0 and program is not None:
        status = view.lib.edgeq_program(own, own, program)
    if status:
        raise native.failure(status, view.handle.detail, str(origin.artifact.path))
    view._session = _Session(view, view._origin._memory_for(view))
    return view


def _positive(repeats: int) -> int:
    if repeats < 1:
        raise RunError(f"{repeats} repeats", why="at least one is needed")
    return repeats


def _free(lib: ctypes.CDLL, handle: native.Model, pools: dict[int, int], process: int) -> None:
    # A forked child has the memory but not the threads: joining them would never end.
    if os.getpid() == process:
        for pool in pools.values():
            lib.edgeq_pool_free(pool)
        lib.edgeq_model_free(ctypes.byref(handle))
