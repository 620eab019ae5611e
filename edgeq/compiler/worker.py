"""The process that generates code: reads pickled jobs from stdin, writes pickled answers to stdout.

A separate program instead of multiprocessing, because that would import the caller's main script again.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], message: Any) -> None:
    """Writes one length-prefixed message."""
    data = pickle.dumps(message)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
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
    """Builds one kernel's object; it appears under its final name only when it is complete."""
    from edgeq.compiler.codegen import write_object
    from edgeq.compiler.target import load_target

    target = load_target(target_name)
    destination = Path(path)
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=".o", dir=destination.parent)
    os.close(handle)
    try:
        write_object(spec.build(target), target.tvm_target(), Path(temporary))
        os.replace(temporary, destination)
    finally:
        Path(temporary).unlink(missing_ok=True)


def main() -> None:
    """Serves jobs (spec, target, path) until stdin closes; answers None or the exception."""
    inbox = sys.stdin.buffer
    # Whatever a library prints must not end up between the answers.
    outbox = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import edgeq.compiler.codegen  # noqa: F401 - imports tvm now, while the caller still calibrates

    while True:
        try:
            job = receive(inbox)
        except EOFError:
            return
        try:
            build_one(*job)
            answer: Exception | None = None
        except Exception as error:
            answer = error
        send(outbox, _portable(answer))


def _portable(error: Exception | None) -> Exception | None:
    """The error itself if it survives pickling, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
