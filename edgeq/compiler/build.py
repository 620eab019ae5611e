"""From PrimFuncs to objects: TVM's lowering with a plain C ABI, in worker processes, cached on disk by content.

TVM takes seconds to import and LLVM aborts the process on a fatal error, so no code generation happens in the caller's
process: workers are fresh interpreters that outlive single kernels, and their death is an error that names the kernel.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgeq.cache import cache_dir
from edgeq.compiler.kernels.base import KERNEL_VERSION, KernelSpec
from edgeq.compiler.target import Target, target_root
from edgeq.compiler.worker import receive, send
from edgeq.errors import CompileError, EdgeqError

SECONDS_A_KERNEL = 300.0  # a generator that takes longer hangs


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
        files = sorted(
            [*here.glob("kernels/*.py"), *here.glob("isa/*.py"), here / "codegen.py", *target.folder.glob("*.py")]
        )
        state = hashlib.blake2b(digest_size=12)
        for file in files:
            state.update(file.read_bytes())
        _DIGESTS[target.folder] = state.hexdigest()
    return _DIGESTS[target.folder]


class Worker:
    """One code-generating process, restarted when it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def start(self) -> None:
        """Starts the process; it imports tvm in the background."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "edgeq.compiler.worker"]
            root = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, "PYTHONPATH": path},
            )

    def build(self, spec: KernelSpec, target: Target, path: Path) -> None:
        """Builds one kernel.

        Raises:
            CompileError: generation failed, took too long, or killed the process.
        """
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        where = f"kernel {spec.symbol(target)}, target {target.name}"
        watchdog = threading.Timer(SECONDS_A_KERNEL, process.kill)
        watchdog.start()
        try:
            send(process.stdin, (spec, _reload_name(target), str(path)))
            answer = receive(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            self.stop()
            raise CompileError(
                "the code generator died",
                where=where,
                why=self._last_words() or "it was killed: too slow, or memory ran out",
                hint="LLVM aborts on instructions it can't select: report the kernel's name, try another --target",
            ) from error
        finally:
            watchdog.cancel()
        if isinstance(answer, EdgeqError):
            raise answer
        if answer is not None:
            raise CompileError(
                "code generation failed", where=where, why=f"{type(answer).__name__}: {str(answer)[:500]}"
            )

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _last_words(self) -> str:
        self._log.seek(max(0, self._log.tell() - 600))
        return self._log.read().decode(errors="replace").strip()[-300:]


def _reload_name(target: Target) -> str:
    """What `load_target` takes in another process: the name of a built-in target, else its folder."""
    return target.name if target.folder.parent == target_root() else str(target.folder)


class KernelBuilder:
    """A pool of code generators. Use as a context manager; `start()` early hides tvm's import time."""

    def __init__(self, workers: int | None = None) -> None:
        count = workers or max(1, min(len(os.sched_getaffinity(0)), 8))
        self._workers = [Worker() for _ in range(count)]

    def __enter__(self) -> KernelBuilder:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.stop()

    def start(self) -> None:
        """Starts all workers in the background."""
        for worker in self._workers:
            worker.start()

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
        free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers[: len(missing)]:
            worker.start()
            free.put(worker)

        def one(job: tuple[KernelSpec, Path]) -> None:
            worker = free.get()
            try:
                worker.build(job[0], target, job[1])
            finally:
                free.put(worker)

        with cf.ThreadPoolExecutor(len(self._workers)) as threads:
            futures = [threads.submit(one, job) for job in missing]
            try:
                for done, future in enumerate(cf.as_completed(futures), start=1):
                    future.result()
                    if progress:
                        progress(done, len(missing))
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
