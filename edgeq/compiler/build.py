"""From PrimFuncs to objects: TVM's lowering with a plain C ABI, in worker processes, cached on disk by content.

TVM takes seconds to import and LLVM aborts the process on a fatal error, so no code generation happens in the caller's
process: workers are fresh interpreters that outlive single kernels, and their death is an error that names the kernel.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeq.cache import cache_dir
from edgeq.compiler.kernels.base import KERNEL_VERSION, KernelSpec
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError, EdgeqError

MAX_STACK_ALLOCATION = 256  # bytes; bigger scratch has to be an operand that lives in the arena


def lower_and_build(function: Any, target: Target, path: Path) -> None:
    """Lowers one PrimFunc with a plain C ABI and writes its object file. Runs in a worker; imports tvm."""
    from edgeq.compiler.codegen import write_object

    write_object(function, target.tvm_target(), path)


def object_path(spec: KernelSpec, target: Target) -> Path:
    """Where the cache keeps this kernel's object."""
    state = f"{KERNEL_VERSION} {sorted(target.tvm_target().items())} {spec.symbol(target)} {_sources_digest(target)}"
    key = hashlib.blake2b(state.encode(), digest_size=12).hexdigest()
    return cache_dir() / "kernels" / target.name / f"{spec.symbol(target)}_{key}.o"


_DIGESTS: dict[Path, str] = {}


def _sources_digest(target: Target) -> str:
    """Digest of the generators' sources and of the target's folder: a changed generator never meets an old object."""
    if target.folder not in _DIGESTS:
        here = Path(__file__).parent
        files = sorted([*here.glob("kernels/*.py"), here / "codegen.py", *target.folder.glob("*.py")])
        state = hashlib.blake2b(digest_size=12)
        for file in files:
            state.update(file.read_bytes())
        _DIGESTS[target.folder] = state.hexdigest()
    return _DIGESTS[target.folder]


def _build_one(spec: KernelSpec, target_name: str, path: str) -> None:
    target = load_target(target_name)
    destination = Path(path)
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".o", dir=destination.parent)
    os.close(handle)
    try:
        lower_and_build(spec.build(target), target, Path(temporary))
        os.replace(temporary, destination)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _warm_up() -> None:
    """Imports what a worker needs, so that this happens while the caller still calibrates."""
    import edgeq.compiler.codegen  # noqa: F401


class KernelBuilder:
    """A pool of code generators. Use as a context manager; `start()` early hides tvm's import time."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or max(1, min(len(os.sched_getaffinity(0)), 8))
        self._pool: cf.ProcessPoolExecutor | None = None

    def __enter__(self) -> KernelBuilder:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def start(self) -> None:
        """Starts the workers in the background."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = cf.ProcessPoolExecutor(self.workers, mp_context=context)
            for _ in range(self.workers):
                self._pool.submit(_warm_up)

    def build(
        self, specs: Iterable[KernelSpec], target: Target, progress: Callable[[int, int], None] | None = None
    ) -> list[Path]:
        """Objects of these kernels, built where the cache doesn't have them.

        Args:
            specs: kernels; equal ones are built once.
            progress: called with (built, to build) after each kernel.

        Raises:
            CompileError: code generation failed or killed its process; names the kernel and the target.
        """
        unique = list(dict.fromkeys(specs))
        paths = [object_path(spec, target) for spec in unique]
        missing = [(spec, path) for spec, path in zip(unique, paths, strict=True) if not path.is_file()]
        if missing:
            self._build_missing(missing, target, progress)
        return paths

    def _build_missing(
        self,
        missing: Sequence[tuple[KernelSpec, Path]],
        target: Target,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.start()
        assert self._pool is not None
        name = target.name if target.folder.parent == load_target(target.name).folder.parent else str(target.folder)
        futures = {self._pool.submit(_build_one, spec, name, str(path)): spec for spec, path in missing}
        for done, future in enumerate(cf.as_completed(futures), start=1):
            spec = futures[future]
            try:
                future.result()
            except EdgeqError:
                raise
            except cf.process.BrokenProcessPool as error:
                self._pool = None
                raise CompileError(
                    "the code generator died",
                    where=f"kernel {spec.symbol(target)}, target {target.name}",
                    why="LLVM aborts on instructions that it can't select, or memory ran out",
                    hint="report the kernel's name; `--target` with another instruction set may work meanwhile",
                ) from error
            except Exception as error:
                raise CompileError(
                    "code generation failed",
                    where=f"kernel {spec.symbol(target)}, target {target.name}",
                    why=f"{type(error).__name__}: {str(error)[:500]}",
                ) from error
            if progress:
                progress(done, len(missing))
