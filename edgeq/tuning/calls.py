"""Single kernels, built and called in this process, timed in turns."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.artifact.tools import linker, run_tool
from edgeq.cache import cached_file, content_key
from edgeq.compiler.build import KernelBuilder
from edgeq.compiler.kernels.base import SLACK_BYTES, KernelSpec
from edgeq.compiler.target import Target
from edgeq.errors import UsageError

Array = NDArray[Any]
Call = Callable[[], object]

_ALIGNMENT = 64
BURST_SECONDS = 0.001


def require_runnable(target: Target) -> None:
    """Raises UsageError where the target's code doesn't run on this machine."""
    if target.bare_metal or not target.runs_here():
        raise UsageError(
            f"kernels for {target.name} can't be timed here",
            why="this machine's processor doesn't run them",
            hint="run this on such a machine; a schedule can be taken along",
        )


class KernelCalls:
    """Kernels of one target that run on this machine.

    The same code takes up to a quarter longer at one address than at another (the processor predicts branches and
    loads by address), so that a comparison of kernels is made at several.

    Args:
        specs: all kernels that will be called.
        progress: called with (built, to build).
        copies: how often their code is loaded, each time at another address.

    Raises:
        UsageError: the target's code doesn't run here. CompileError, ToolError: a kernel can't be built or linked.
    """

    def __init__(
        self,
        specs: Iterable[KernelSpec],
        target: Target,
        builder: KernelBuilder,
        progress: Callable[[int, int], None] | None = None,
        copies: int = 1,
    ) -> None:
        require_runnable(target)
        self.target = target
        objects = sorted(set(builder.build(specs, target, progress)))

        def link(made: Path) -> None:
            run_tool([*linker(), "-shared", "-o", made, *objects], "linking kernels to be timed")

        key = content_key([path.name for path in objects])
        library = cached_file("timed", "kernels.so", key, link)
        self._libraries = [ctypes.CDLL(str(library)), *(_loaded_again(library) for _ in range(copies - 1))]

    def call(
        self,
        spec: KernelSpec,
        constants: Mapping[str, Array],
        parameters: Sequence[tuple[str, str, int]] | None = None,
        seed: int = 0,
    ) -> Call:
        """A call of one kernel with all its tasks, on random inputs."""
        return self.calls(spec, constants, parameters, seed)[0]

    def calls(
        self,
        spec: KernelSpec,
        constants: Mapping[str, Array],
        parameters: Sequence[tuple[str, str, int]] | None = None,
        seed: int = 0,
    ) -> list[Call]:
        """The same call of each copy of the code.

        Args:
            constants: logical constants for `spec.pack`.
            parameters: (name, dtype, elements) of its operands, for a family that doesn't say.
        """
        rng = np.random.default_rng(seed)
        packed = spec.pack(self.target, dict(constants))
        buffers = []
        sizes = {name: (dtype, count) for name, dtype, count in parameters or spec.parameters(self.target)}
        for operand in spec.operands():
            if operand.role == "weight":
                buffers.append(_aligned(packed[operand.name].view(np.uint8).reshape(-1)))
            else:
                dtype, count = sizes[operand.name]
                size = count * _BYTES[dtype]
                filled = rng.integers(0, 256, size, np.uint8) if operand.role == "input" else np.zeros(size, np.uint8)
                buffers.append(_aligned(filled))
        pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
        return [
            _run(getattr(library, spec.symbol(self.target)), spec.tasks(), pointers, buffers)
            for library in self._libraries
        ]


def _run(function: Any, tasks: int, pointers: Sequence[ctypes.c_void_p], keep: Sequence[Array]) -> Call:
    """The call; `keep` holds the memory that it works on."""
    function.restype = None

    def run(_: Sequence[Array] = keep) -> None:
        function(0, tasks, *pointers)

    return run


def _loaded_again(library: Path) -> ctypes.CDLL:
    """Another mapping of a library: the loader knows files, so it is given a copy, which may go once it is mapped."""
    with tempfile.TemporaryDirectory(prefix="edgeq-timed-") as scratch:
        return ctypes.CDLL(str(shutil.copy(library, scratch)))


_BYTES = {"s8": 1, "u8": 1, "s16": 2, "s32": 4, "s64": 8}


def _aligned(data: Array) -> Array:
    """A copy on a cache line's border with readable slack behind it."""
    raw = np.zeros(data.size + SLACK_BYTES + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    view: Array = raw[start : start + data.size + SLACK_BYTES]
    view[: data.size] = data
    return view


def burst(call: Call, repeats: int) -> float:
    """Processor seconds of one call, the mean over `repeats`."""
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - start) / repeats


def take_turns(calls: Sequence[Call], rounds: int) -> Array:
    """Processor seconds of every call in every round, float64 [rounds, calls]: bursts of about a millisecond, in turns,
    so that whatever else the machine does meets all of them alike."""
    repeats = [max(1, int(BURST_SECONDS / max(min(burst(call, 2) for _ in range(3)), 1e-7))) for call in calls]
    return np.array(
        [[burst(call, count) for call, count in zip(calls, repeats, strict=True)] for _ in range(rounds)]
    )  # fmt: skip
