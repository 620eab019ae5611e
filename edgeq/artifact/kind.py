"""Which kind of artifact a file is, by its first bytes; imports nothing that either kind needs."""

from __future__ import annotations

from pathlib import Path

_MODULE = b"\0asm"


def is_module(path: Path) -> bool:
    """Whether the file begins like a WebAssembly module."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MODULE)) == _MODULE
    except OSError:
        return False  # whoever reads it next says what is wrong with it
