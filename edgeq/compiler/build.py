"""From PrimFuncs to objects: TVM's lowering with a plain C ABI, in worker processes, cached on disk by content.

TVM takes long to import and LLVM aborts the process on a fatal error, so no code generation happens in the caller's
process: workers are forked from one fresh interpreter, outlive single kernels, and their death is an error that names
the kernel.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import hashlib
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

from edgeq.cache import cache_dir
from edgeq.compiler.kernels.base import KERNEL_VERSION, KernelSpec
from edgeq.compiler.target import Target, target_root
from edgeq.compiler.worker import Stream, receive, send
from edgeq.errors import CompileError, EdgeqError

SECONDS_TO_END = 10
SECONDS_A_KERNEL = 300  # a generator that takes longer hangs


def object_path(spec: KernelSpec, target: Target) -> Path:
    """Where the cache keeps this kernel's object (of C targets: its source)."""
    state = f"{KERNEL_VERSION} {sorted(target.tvm_target().items())} {spec.symbol(target)} {_sources_digest(target)}"
    key = hashlib.blake2b(state.encode(), digest_size=12).hexdigest()
    return cache_dir() / "kernels" / target.name / f"{spec.symbol(target)}_{key}.{'c' if target.emits_c else 'o'}"


_DIGESTS: dict[Path, str] = {}


def _sources_digest(target: Target) -> str:
    """Digest of the generators' sources and of the target's folder: a changed generator never meets an old object."""
    if target.folder not in _DIGESTS:
        here = Path(__file__).parent
        files = sorted([*here.glob("kernels/**/*.py"), *here.glob("isa/**/*.py"), here / "codegen.py"])
        files += [here / f"{name}.py" for name in ("codegen_c", "scalarise", "unused")] if target.emits_c else []
        files += [own for folder in (target.folder, *target.bases) for own in sorted(folder.glob("*.py"))]
        state = hashlib.blake2b(digest_size=12)
        for file in files:
            state.update(file.read_bytes())
        _DIGESTS[target.folder] = state.hexdigest()
    return _DIGESTS[target.folder]


class Nursery:
    """The process that imports tvm, once for all workers, and forks them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process

    def connect(self, log: IO[bytes]) -> Stream:
        """A stream to a new worker, which is forked as soon as tvm is imported; what it prints goes to `log`."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._lock:
            control = self._running()
            socket.send_fds(control, [b"+"], [theirs.fileno(), log.fileno()])
            return ours.makefile("rwb")

    def _running(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            self._end()
            self._control, theirs = socket.socketpair()
            root = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
            # One thread: a process may be forked only then. A session of its own: it ends together with its workers.
            single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edgeq.compiler.worker"],
                    stdin=theirs.fileno(),
                    stdout=self.log,
                    stderr=self.log,
                    env={**os.environ, **single, "PYTHONPATH": path},
                    start_new_session=True,
                )
        return self._control

    def stop(self) -> None:
        """Ends the process and all workers."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            for last in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self._process.pid, last)  # not waited for yet, so the number is still its own
                    self._process.wait(SECONDS_TO_END)
                    break
            self._process.wait()
            self._process = None


class Worker:
    """One code-generating process, forked again when it dies."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._stream: Stream | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker

    def start(self) -> Stream:
        """Asks for the process, without waiting for it; returns the stream to it."""
        if self._stream is None:
            self._stream = self._nursery.connect(self._log)
        return self._stream

    def build(self, spec: KernelSpec, target: Target, path: Path) -> None:
        """Builds one kernel.

        Raises:
            CompileError: generation failed, took too long, or killed the process.
        """
        where = f"kernel {spec.symbol(target)}, target {target.name}"
        try:
            stream = self.start()
            send(stream, (spec, _reload_name(target), str(path), SECONDS_A_KERNEL))
            answer = receive(stream)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self.stop()
            raise CompileError(
                "the code generator died",
                where=where,
                why=_last_words(self._log)
                or _last_words(self._nursery.log)
                or "it was killed: too slow, or memory ran out",
                hint="LLVM aborts on instructions it can't select: report the kernel's name, try another --target",
            ) from error
        if isinstance(answer, EdgeqError):
            raise answer
        if answer is not None:
            raise CompileError(
                "code generation failed", where=where, why=f"{type(answer).__name__}: {str(answer)[:500]}"
            )

    def stop(self) -> None:
        """Ends the connection, and the process with it."""
        if self._stream is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a job that nobody has read
                self._stream.close()
            self._stream = None


def _last_words(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - 600))
    return log.read().decode(errors="replace").strip()[-300:]


def _reload_name(target: Target) -> str:
    """What `load_target` takes in another process: the name of a built-in target, else its folder."""
    return target.name if target.folder.parent == target_root() else str(target.folder)


class KernelBuilder:
    """A pool of code generators. Use as a context manager; `start()` early hides tvm's import time."""

    def __init__(self, workers: int | None = None) -> None:
        count = workers or max(1, min(len(os.sched_getaffinity(0)), 8))
        self._nursery = Nursery()
        self._workers = [Worker(self._nursery) for _ in range(count)]

    def __enter__(self) -> KernelBuilder:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.stop()
        self._nursery.stop()

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
        unique = {object_path(spec, target): spec for spec in dict.fromkeys(specs)}  # several specs may share one
        missing = [(spec, path) for path, spec in unique.items() if not path.is_file()]
        if missing:
            self._build_missing(missing, target, progress)
        return list(unique)

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
