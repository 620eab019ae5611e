"""The processes that generate code. One imports tvm, which takes most of a second, and forks a server for every
connection that it is handed: each reads pickled jobs from its socket and writes pickled answers.

A separate program instead of multiprocessing, because that would import the caller's main script again. It has one
thread when it forks; servers share the memory of what it imported.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import pkgutil
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn, Protocol

LENGTH = struct.Struct("<Q")


class Stream(Protocol):
    """A connection's two directions, as `socket.makefile` gives them."""

    def read(self, size: int, /) -> bytes: ...

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def send(stream: Stream, message: Any) -> None:
    """Writes one length-prefixed message."""
    data = pickle.dumps(message)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: Stream) -> Any:
    """Reads one message; EOFError when the other side is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def build_one(spec: Any, target_name: str, path: str) -> None:
    """Builds one kernel's object or source; it appears under its final name only when it is complete."""
    from edgeq.compiler.target import load_target

    target = load_target(target_name)
    destination = Path(path)
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=destination.suffix, dir=destination.parent)
    os.close(handle)
    try:
        if target.emits_c:
            from edgeq.compiler.codegen_c import write_source

            write_source(spec.build(target), Path(temporary))
        else:
            from edgeq.compiler.codegen import write_object

            write_object(spec.build(target), target.tvm_target(), Path(temporary))
        os.replace(temporary, destination)
    finally:
        Path(temporary).unlink(missing_ok=True)


def main() -> NoReturn:
    """Forks a server for every (connection, log) received on the control socket, stdin, until that closes."""
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    # Whatever a library prints belongs to the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _import_generators()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets servers that end: their sockets tell
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ends servers, so that none is left behind without a parent
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            with contextlib.suppress(ChildProcessError):
                os.wait()  # for all of them, as SIGCHLD is ignored
            os._exit(0)
        if os.fork() == 0:
            control.close()
            _serve(*handles)
        for handle in handles:
            os.close(handle)


def _import_generators() -> None:
    # tvm_ffi imports torch where it is installed, for tensors that no kernel is generated from: two thirds of the time.
    hidden: dict[str, Any] = {"torch": None}  # Python then says that it isn't there
    sys.modules.update(hidden)
    from edgeq.compiler import kernels

    importlib.import_module("edgeq.compiler.codegen")
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        importlib.import_module(module.name)
    gc.freeze()  # what was imported stays: servers needn't look through it again and again


def _serve(connection: int, log: int) -> NoReturn:
    """Answers jobs (spec, target, path, seconds) with None or the exception; ends when the caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        stream = socket.socket(fileno=connection).makefile("rwb")
        while True:
            *job, seconds = receive(stream)
            signal.alarm(seconds)  # a generator that hangs is ended by the kernel
            answer: Exception | None = None
            try:
                build_one(*job)
            except Exception as error:
                answer = error
            signal.alarm(0)
            send(stream, _portable(answer))
    os._exit(0)


def _portable(error: Exception | None) -> Exception | None:
    """The error itself if it survives pickling, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
