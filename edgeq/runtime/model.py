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

from edgeq.artifact.format import MAX_THREADS, StepInfo, TensorInfo
from edgeq.artifact.read import Artifact, read
from edgeq.errors import RunError
from edgeq.runtime import native
from edgeq.runtime.arrays import Array, Inputs, empty_outputs, name_outputs, prepare

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

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @property
    def inputs(self) -> list[TensorInfo]:
        """Name, dtype, shape, scale and zero point of the inputs."""
        return self.artifact.image.inputs

    @property
    def outputs(self) -> list[TensorInfo]:
        """The same of the outputs."""
        return self.artifact.image.outputs

    @property
    def steps(self) -> list[StepInfo]:
        """The kernel calls, in order."""
        return self.artifact.image.steps

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the compiler wrote about the model."""
        return self.artifact.image.manifest

    def run(self, inputs: Inputs, *, threads: int = 1, dequantize: bool | None = None) -> dict[str, Array]:
        """Runs the model once.

        Args:
            inputs: one array, {name: array}, or a sequence in the order of the inputs; shapes exactly as in `inputs`.
                Floats are real values and get quantized: q = clip(rint(x / scale) + zero_point). Integers must have
                the input's dtype and are taken as they are.
            threads: 1 to 64, the caller's included; results don't depend on it.
            dequantize: True: outputs as float32 real values; False: as integers; None: floats if an input was one.

        Returns:
            {output name: array}.

        Raises:
            RunError: inputs that don't fit, or a step that refuses.
        """
        batch = prepare(inputs, self.inputs, batched=False)
        as_float = batch.is_float if dequantize is None else dequantize
        outputs = self._execute(batch.arrays, 1, as_float, threads, 1)
        return name_outputs(outputs, self.outputs, batched=False, is_merged=False)

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
        batch = prepare(inputs, self.inputs, batched=True)
        as_float = batch.is_float if dequantize is None else dequantize
        outputs = self._execute(batch.arrays, batch.runs, as_float, threads, workers)
        return name_outputs(outputs, self.outputs, batched=True, is_merged=batch.is_merged)

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        """Dense outputs [runs, *shape] of dense inputs [runs, *shape]."""
        raise NotImplementedError

    def verify(self, *, threads: int = 1) -> int:
        """Runs the artifact's golden vectors; returns how many there are.

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


def prepare_one(inputs: Inputs | None, tensors: Sequence[TensorInfo]) -> list[Array]:
    """One run's arrays [1, *shape] in the model's order; None: zeros."""
    zeros = {t.name: np.zeros(t.shape, t.numpy_dtype) for t in tensors}
    return list(prepare(zeros if inputs is None else inputs, tensors, batched=False).arrays)


class _Session:
    """A context with its arena: one run at a time."""

    def __init__(self, owner: NativeModel) -> None:
        self.lib = owner.lib
        self.context = native.Context()
        size = int(self.lib.edgeq_arena_size(ctypes.byref(owner.handle)))
        self._memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = int(self._memory.ctypes.data)
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
        super().__init__(read(path, check_digest=False))
        self._lock = threading.Lock()
        self._session = _Session(self)

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
        count = ctypes.c_uint32()
        with self._lock:
            self._session.context.pool = self._pool(threads)
            self._session.check(self.lib.edgeq_verify(ctypes.byref(self._session.context), ctypes.byref(count)))
        return count.value

    def _fill(self, inputs: Inputs | None, threads: int) -> None:
        """Runs once, so that code, caches and pool are warm. Later runs start from what this one left of the inputs,
        which changes no time: integer kernels don't look at values."""
        arrays = prepare_one(inputs, self.inputs)
        self._session.run(arrays, empty_outputs(self.outputs, 1, False), 1, self._pool(threads))

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        times = np.zeros((_positive(repeats), len(self.steps)), np.uint64)
        totals = np.zeros(repeats)
        with self._lock:
            self._fill(inputs, threads)
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
        times = np.zeros(_positive(repeats))
        with self._lock:
            self._fill(inputs, threads)
            for index in range(repeats):
                before = self.lib.edgeq_clock_ns()
                self._session.check(self.lib.edgeq_run(ctypes.byref(self._session.context)))
                times[index] = self.lib.edgeq_clock_ns() - before
        return times


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
