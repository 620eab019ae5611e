"""Output files that are complete or not there at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeq.errors import UsageError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix; renamed to it when the block ends well, deleted otherwise.

    Raises:
        OSError: the folder doesn't exist or can't be written to.
    """
    final = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{final.stem}-", suffix=final.suffix, dir=final.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        # mkstemp makes files that only their owner may read; outputs get what any new file would.
        umask = os.umask(0)
        os.umask(umask)
        scratch.chmod(0o666 & ~umask)
        os.replace(scratch, final)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) in one step."""
    with atomic_path(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def publish(source: Path, folder: Path) -> None:
    """Copy a folder's files into another one, which is made if need be; each appears when it is complete.

    Raises:
        OSError: the folder can't be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        with atomic_path(folder / file.name) as place:
            shutil.copyfile(file, place)


def check_output(path: str | Path) -> None:
    """Before minutes of work: can the result be written at all?

    Raises:
        UsageError: it is a folder, or its folder doesn't exist.
    """
    file = Path(path)
    if file.is_dir():
        raise UsageError(
            "can't write the output", where=str(path), why="it is a folder", hint="give a file name with -o"
        )
    if not file.parent.is_dir():
        raise UsageError(
            "can't write the output", where=str(path), why="its folder doesn't exist", hint=f"mkdir -p {file.parent}"
        )
