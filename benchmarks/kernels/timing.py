"""Shared by the kernel benchmarks: build a spec, call it, take turns with ONNX Runtime."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeq.compiler import codegen
from edgeq.compiler.kernels.base import SLACK_BYTES, KernelSpec
from edgeq.compiler.target import Target

Timed = Callable[[], object]


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary with slack behind it."""
    raw = np.zeros(array.nbytes + SLACK_BYTES + 64, np.uint8)
    start = -raw.ctypes.data % 64
    view = raw[start : start + array.nbytes + SLACK_BYTES]
    view[: array.nbytes] = array.view(np.uint8).reshape(-1)
    return view


def kernel_calls(spec: KernelSpec, target: Target, arrays: dict[str, np.ndarray]) -> tuple[Timed, Timed, float]:
    """(all tasks, no task, KB of code) of a built kernel; `arrays` has every operand but scratch."""
    arrays = arrays | {"scratch": np.zeros(max(1, spec.scratch_bytes(target)), np.uint8)}
    buffers = [aligned(arrays[operand.name]) for operand in spec.operands()]
    path = Path(tempfile.mkdtemp()) / "kernel.o"
    codegen.write_object(spec.build(target), target.tvm_target(), path)
    library = path.with_suffix(".so")
    subprocess.run([sys.executable, "-m", "ziglang", "ld.lld", "-shared", str(path), "-o", str(library)], check=True)
    function = getattr(ctypes.CDLL(str(library)), spec.symbol(target))
    pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
    tasks = spec.tasks()

    def call(keep: list[np.ndarray] = buffers) -> None:
        del keep  # only holds the memory
        function(0, tasks, *pointers)

    return call, lambda: function(0, 0, *pointers), path.stat().st_size / 1024


def seconds(call: Timed, repeats: int) -> float:
    """Mean processor time of one call in this thread: the machine's other work doesn't count."""
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - start) / repeats


def measure(calls: dict[str, Timed], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every call, in turns: one entry a round."""
    repeats = {name: max(1, int(0.003 / min(seconds(call, 3) for _ in range(3)))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, repeats[name]))
    return {name: np.array(values) for name, values in times.items()}
