"""The user's cache folder: things that can be rebuilt at any time, named by the content they were made from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from edgeq.errors import ToolError

ENVIRONMENT = "EDGEQ_CACHE_DIR"


def cache_dir(*parts: str) -> Path:
    """The cache folder, or the sub-folder `parts` of it; made if it isn't there.

    `$EDGEQ_CACHE_DIR`, else `$XDG_CACHE_HOME/edgeq`, else `~/.cache/edgeq`.

    Raises:
        ToolError: the folder can't be made.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        root = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        root = (Path(base) if base else Path.home() / ".cache") / "edgeq"
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(
            "the cache folder can't be made",
            where=str(folder),
            why=error.strerror or str(error),
            hint=f"set {ENVIRONMENT} to a folder that can be written",
        ) from error
    return folder


def content_key(parts: Iterable[bytes | str]) -> str:
    """Hex name (32 digits) of the content `parts`; their borders count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def cached_file(folder: str, name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The file `<cache>/<folder>/<key>/<name>`, made by `build(temporary path)` when it isn't there.

    Safe against other processes that build the same file at the same time: the last rename wins, both are complete.
    """
    home = cache_dir(folder, key)
    final = home / name
    if final.is_file():
        return final
    try:
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=home) as scratch:
            made = Path(scratch) / name
            build(made)
            os.replace(made, final)
    except OSError as error:
        raise ToolError(
            "a file can't be put into the cache",
            where=str(final),
            why=error.strerror or str(error),
            hint=f"free some space, or set {ENVIRONMENT} to another folder",
        ) from error
    return final
