"""Finding and running the tools that link artifacts: lld and a C compiler, both of which the `ziglang` wheel brings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeq.cache import cache_dir
from edgeq.errors import ToolError

_HINT = "pip install ziglang (it brings lld and cross compilers)"


def zig() -> Path | None:
    """The `zig` binary of the `ziglang` package, or on the PATH; None if there is none."""
    spec = importlib.util.find_spec("ziglang")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "zig"
        if binary.is_file():
            return binary
    found = shutil.which("zig")
    return Path(found) if found else None


def linker() -> list[str]:
    """Command of an LLVM linker for ELF.

    Raises:
        ToolError: neither `ziglang` nor `ld.lld` is there.
    """
    found = zig()
    if found:
        return [str(found), "ld.lld"]
    system = shutil.which("ld.lld")
    if system:
        return [system]
    raise ToolError("no linker was found", why="neither the ziglang package nor ld.lld is installed", hint=_HINT)


def cross_compiler(arch: str) -> list[str]:
    """Command of a C compiler for `<arch>-linux`, without its C library's needs for `-c` builds.

    Raises:
        ToolError: none is there.
    """
    found = zig()
    if found:
        return [str(found), "cc", "-target", f"{arch}-linux-musl"]
    for name in (f"{arch}-linux-gnu-gcc", "clang"):
        system = shutil.which(name)
        if system:
            return [system] if name != "clang" else [system, "--target=" + f"{arch}-linux-gnu"]
    raise ToolError(f"no C compiler for {arch} was found", hint=_HINT)


def run_tool(command: Sequence[str | Path], doing: str, *, timeout: float = 600.0) -> str:
    """Runs a tool and returns what it printed.

    Args:
        command: program and arguments.
        doing: what it is needed for, as in "linking the artifact": goes into the error.
        timeout: seconds.

    Raises:
        ToolError: it can't be started, takes too long, or fails; its own last words are the reason.
    """
    environment = dict(os.environ)
    environment.setdefault("ZIG_GLOBAL_CACHE_DIR", str(cache_dir("zig")))
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", str(cache_dir("zig")))
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise ToolError(f"{doing} failed", where=str(command[0]), why=error.strerror, hint=_HINT) from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{doing} took more than {timeout:.0f} s", where=name) from error
    if done.returncode != 0:
        words = done.stdout.strip()[-1500:] or f"{name} ended with code {done.returncode}"
        raise ToolError(f"{doing} failed", where=name, why=words)
    return done.stdout
