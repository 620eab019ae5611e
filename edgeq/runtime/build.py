"""Builds the C runtime on demand: the library that Python loads, and `edgeq-run` for emulators. Cached by content."""

from __future__ import annotations

import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeq.artifact.tools import cross_compiler, names_of, run_tool, zig
from edgeq.cache import cached_file, content_key
from edgeq.errors import ToolError
from edgeq.runtime.sources import runtime_root

# No warnings: what a compiler of tomorrow frowns at must not keep a user from running a model. Tests have -Werror.
_FLAGS = ["-std=c99", "-O2", "-w", "-fno-math-errno", "-ffp-contract=off", "-g0"]
# Loops over the caller's floats: worth the larger code that vectorizing makes of them.
_VECTORIZED = {"convert.c"}


def library_sources() -> list[Path]:
    """The C files of the runtime library, in a fixed order."""
    return sorted((runtime_root() / "src").glob("*.c"))


def library() -> Path:
    """The runtime as a shared library for this process, built if it isn't in the cache.

    Raises:
        ToolError: no C compiler, or it failed.
    """
    compiler = _host_compiler()
    flags = [*_FLAGS, "-fPIC", "-fvisibility=hidden"]
    return _build("libedgeq.so", compiler, flags, library_sources(), ["-shared", "-pthread", "-lm"])


def runner(arch: str) -> Path:
    """`edgeq-run` for `arch`, statically linked, so that an emulator needs no libraries of that architecture.

    Raises:
        ToolError: no cross compiler, or it failed.
    """
    tools = runtime_root() / "tools"
    sources = [*library_sources(), *sorted(tools.glob("*.c"))]
    return _build(f"edgeq-run-{arch}", _static_compiler(arch), _FLAGS, sources, ["-static", "-pthread", "-lm"])


def counter(arch: str) -> Path:
    """`edgeq-count` for `arch`: runs an artifact's steps between markers, for the plugin that counts instructions.

    Made by the compiler that also makes artifacts, where there is one: another one's calls would count differently.

    Raises:
        ToolError: no cross compiler, or it failed.
    """
    sources = [*library_sources(), runtime_root() / "qemu" / "edgeq_count.c"]
    return _build(f"edgeq-count-{arch}", cross_compiler(arch), _FLAGS, sources, ["-static", "-pthread", "-lm"])


def count_plugin() -> Path:
    """The QEMU plugin that counts instructions between markers, for the emulators of this machine.

    Raises:
        ToolError: no C compiler, or it failed.
    """
    flags = ["-std=gnu99", "-O2", "-w", "-g0", "-fPIC", "-fvisibility=hidden"]
    source = runtime_root() / "qemu" / "count_plugin.c"
    return _build("edgeq-count.so", _host_compiler(), flags, [source], ["-shared", "-ldl"])


def _host_compiler() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    found_zig = zig()
    if found_zig:
        return [str(found_zig), "cc"]
    raise ToolError(
        "no C compiler was found",
        why="the runtime is built from its C sources on first use",
        hint="install one (apt-get install gcc libc6-dev) or `pip install ziglang`",
    )


def _static_compiler(arch: str) -> list[str]:
    names = names_of(arch)
    for name in [f"{names.gnu}-gcc", *(["gcc"] if arch == platform.machine() else [])]:
        found = shutil.which(name)
        if found:
            return [found, *names.gnu_flags]
    if zig():
        return cross_compiler(arch)
    raise ToolError(
        f"no C compiler for {arch} was found",
        why=f"running {arch} artifacts under an emulator needs one",
        hint=f"apt-get install {names.package}, or `pip install ziglang`",
    )


def _build(name: str, compiler: list[str], flags: list[str], sources: list[Path], link: list[str]) -> Path:
    root = runtime_root()
    headers = [*sorted((root / "include" / "edgeq").glob("*.h")), *sorted((root / "src").glob("*.h"))]
    headers += [*sorted((root / "tools").glob("*.h")), *sorted((root / "qemu").glob("*.h"))]
    content = [part for path in [*headers, *sources] for part in (path.name, path.read_bytes())]
    key = content_key([name, *compiler, *flags, *link, *content])

    def build(made: Path) -> None:
        def compiled(source: Path) -> Path:
            target = made.parent / f"{source.parent.name}-{source.stem}.o"
            level = ["-O3"] if source.name in _VECTORIZED else []
            include = [f"-I{root / 'include'}", f"-I{root / 'src'}"]
            run_tool([*compiler, *flags, *level, *include, "-c", source, "-o", target], f"compiling {source.name}")
            return target

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(compiled, sources))
        run_tool([*compiler, *objects, "-o", made, *link], f"linking {name}")

    return cached_file("runtime", name, key, build)
