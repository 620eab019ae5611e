"""Runs one kernel spec on arrays: natively through ctypes, else under the target's emulator."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeq.compiler import codegen
from edgeq.compiler.kernels.base import SLACK_BYTES, KernelSpec
from edgeq.compiler.target import Target

DRIVER = Path(__file__).parent / "kernel_driver.c"
CROSS_GCC = {"aarch64": "aarch64-linux-gnu-gcc", "x86_64": "gcc"}
GUARD = 0xA5


@lru_cache(maxsize=1)
def _workshop() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes with this process."""
    return tempfile.TemporaryDirectory(prefix="edgeq-kernels-")


@lru_cache(maxsize=4096)
def _built(spec: KernelSpec, target: Target) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_workshop().name))
    path = folder / "kernel.o"
    codegen.write_object(spec.build(target), target.tvm_target(), path)
    return path


@lru_cache(maxsize=4096)
def _shared(spec: KernelSpec, target: Target) -> ctypes.CDLL:
    path = _built(spec, target)
    library = path.with_suffix(".so")
    subprocess.run([sys.executable, "-m", "ziglang", "ld.lld", "-shared", str(path), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@lru_cache(maxsize=4096)
def _program(spec: KernelSpec, target: Target) -> Path:
    path = _built(spec, target)
    program = path.with_suffix(".exe")
    command = [CROSS_GCC[target.arch], "-static", "-O1", f"-DKERNEL={spec.symbol(target)}", str(DRIVER), str(path)]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


def _padded(array: np.ndarray) -> np.ndarray:
    """The bytes with guarded slack, 64-byte aligned."""
    raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    storage = np.full(raw.size + SLACK_BYTES + 64, GUARD, np.uint8)
    start = -storage.ctypes.data % 64
    view = storage[start : start + raw.size + SLACK_BYTES]
    view[: raw.size] = raw
    return view


def run_kernel(
    spec: KernelSpec,
    target: Target,
    operands: dict[str, np.ndarray],
    constants: dict[str, np.ndarray] | None = None,
    splits: tuple[int, ...] = (),
) -> dict[str, np.ndarray]:
    """Packs, builds and runs a kernel.

    Args:
        operands: inputs, and outputs as arrays of the right size and dtype (their contents are the start state).
        constants: logical constants for `spec.pack`.
        splits: task numbers at which the range [0, tasks) is cut into several calls.

    Returns:
        the output operands afterwards. Fails if a kernel writes behind an output.
    """
    arrays = dict(operands) | spec.pack(target, constants or {})
    buffers: dict[str, np.ndarray] = {}
    for operand in spec.operands():
        if operand.role == "scratch":
            arrays[operand.name] = np.zeros(max(spec.scratch_bytes(target), 1), np.uint8)
        buffers[operand.name] = _padded(arrays[operand.name])
    cuts = [0, *splits, spec.tasks()]
    for begin, end in itertools.pairwise(cuts):
        if target.runs_here():
            function = getattr(_shared(spec, target), spec.symbol(target))
            function(begin, end, *[ctypes.c_void_p(b.ctypes.data) for b in buffers.values()])
        else:
            _emulate(spec, target, buffers, begin, end)
    result = {}
    for operand in spec.operands():
        if operand.role == "output":
            array, raw = arrays[operand.name], buffers[operand.name]
            assert (raw[array.nbytes :] == GUARD).all(), f"{spec.symbol(target)} wrote behind {operand.name}"
            result[operand.name] = raw[: array.nbytes].copy().view(array.dtype).reshape(array.shape)
    return result


def _emulate(spec: KernelSpec, target: Target, buffers: dict[str, np.ndarray], begin: int, end: int) -> None:
    tools = target.spec.toolchain
    emulator = shutil.which(tools.emulator or "")
    assert emulator, f"{tools.emulator} is missing: apt install {tools.emulator_package}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "operands.bin"
        sizes = [b.nbytes for b in buffers.values()]
        header = np.array([len(sizes), *sizes], np.uint32).tobytes()
        path.write_bytes(header + b"".join(b.tobytes() for b in buffers.values()))
        command = [emulator, *tools.emulator_args, str(_program(spec, target)), str(path)]
        subprocess.run([*command, str(begin), str(end)], check=True, env=os.environ)
        data = np.frombuffer(path.read_bytes()[len(header) :], np.uint8)
    start = 0
    for buffer in buffers.values():
        buffer[:] = data[start : start + buffer.nbytes]
        start += buffer.nbytes
