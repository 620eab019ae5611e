"""Finding and running the tools that link artifacts: lld and a C compiler, both of which the `ziglang` wheel brings."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Names:
    """What tools call an architecture.

    Attributes:
        zig: the target of programs, in zig's spelling.
        gnu: prefix of GNU tools, and clang's target.
        package: Debian's package with the GNU compiler.
        zig_flags, gnu_flags: for the processor that artifacts and programs need at least.
        zig_object, gnu_object: more flags, for code that goes into artifacts: where the ABI of linked objects depends
            on floating-point registers it has to be the one of kernels, which know none.
    """

    zig: str
    gnu: str
    package: str
    zig_flags: tuple[str, ...] = ()
    gnu_flags: tuple[str, ...] = ()
    zig_object: tuple[str, ...] = ()
    gnu_object: tuple[str, ...] = ()


_ARCHES = {
    "x86_64": Names("x86_64-linux-musl", "x86_64-linux-gnu", "gcc-x86-64-linux-gnu"),
    "aarch64": Names("aarch64-linux-musl", "aarch64-linux-gnu", "gcc-aarch64-linux-gnu"),
    "armv7": Names(
        "arm-linux-musleabihf",
        "arm-linux-gnueabihf",
        "gcc-arm-linux-gnueabihf",
        zig_flags=("-mcpu=cortex_a7",),
        gnu_flags=("-mcpu=cortex-a7", "-mfpu=neon-vfpv4", "-marm"),
        # No data between instructions: all of the code is checked for floating point.
        zig_object=("-fno-jump-tables",),
        gnu_object=("-fno-jump-tables",),
    ),
    "riscv64": Names(
        "riscv64-linux-musl",
        "riscv64-linux-gnu",
        "gcc-riscv64-linux-gnu",
        zig_object=("-mcpu=baseline_rv64-f-d", "-mabi=lp64"),
        gnu_object=("-march=rv64imac", "-mabi=lp64"),
    ),
}


def names_of(arch: str) -> Names:
    """The spellings for an architecture of `edgeq.artifact.format.ARCHES`."""
    return _ARCHES[arch]


def cross_compiler(arch: str) -> list[str]:
    """Command of a C compiler for `<arch>-linux`, without its C library's needs for `-c` builds.

    Raises:
        ToolError: none is there.
    """
    names, found = names_of(arch), zig()
    if found:
        return [str(found), "cc", "-target", names.zig, *names.zig_flags]
    for name in (f"{names.gnu}-gcc", "clang"):
        system = shutil.which(name)
        if system:
            return [system, *([] if name != "clang" else [f"--target={names.gnu}"]), *names.gnu_flags]
    raise ToolError(f"no C compiler for {arch} was found", hint=_HINT)


def object_compiler(arch: str) -> list[str]:
    """The same for code that goes into artifacts.

    Raises:
        ToolError: none is there.
    """
    names, command = names_of(arch), cross_compiler(arch)
    return [*command, *(names.zig_object if zig() else names.gnu_object)]


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
