"""Exact instruction counts of an artifact under QEMU: the one measure of speed that is the same on every machine.

A static program (`cpp_runtime/qemu/edgeq_count.c`) runs each step once on one thread between two marker instructions; a
plugin of the emulator counts what executes in between. Loading, hashing and the C library are not in the figures.
Instructions are no time: a count says whether the code changed, not how long a device takes.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeq.artifact.read import read
from edgeq.errors import RunError, ToolError
from edgeq.runtime.build import count_plugin, counter
from edgeq.runtime.emulate import emulator_command

TIMEOUT = 600.0
# What QEMU prints when it was built without plugins, or when the plugin doesn't fit it.
_PLUGIN_TROUBLE = re.compile(r"plugin", re.IGNORECASE)


@dataclass(frozen=True)
class InstructionCount:
    """What one run of an artifact executes.

    Attributes:
        steps: instructions of each step, in the artifact's order.
        stack: bytes of stack that the steps use, the call into them included.
    """

    steps: list[int]
    stack: int

    @property
    def total(self) -> int:
        """Instructions of a whole run, one thread, without the runtime's loop."""
        return sum(self.steps)


def count_instructions(path: str | Path) -> InstructionCount:
    """Count the instructions of every step.

    Args:
        path: an artifact for any architecture whose emulator is installed.

    Raises:
        ArtifactError: not an artifact.
        ToolError: no emulator, no compiler, or an emulator without plugins.
        RunError: the emulated processor lacks a feature of the artifact (QEMU has no AVX-512), or the run failed.
    """
    artifact = read(path)
    arch = artifact.target.arch
    program = [str(counter(arch)), str(Path(path).resolve())]
    with tempfile.TemporaryDirectory(prefix="edgeq-count-") as folder:
        # By name in the folder itself: a comma in a path would end the plugin's argument.
        command = [*emulator_command(arch), "-plugin", f"{count_plugin()},out=counts.txt", *program]
        printed = _run(command, folder, str(path))
        counts = Path(folder) / "counts.txt"
        lines = counts.read_text(encoding="ascii").split() if counts.is_file() else []
    stack = re.search(r"^stack (\d+)$", printed, re.MULTILINE)
    steps = len(artifact.image.steps)
    if stack is None or len(lines) != steps + 1 or lines[-1] != "end":
        raise RunError(
            "the instruction count is incomplete",
            where=str(path),
            why=f"{max(len(lines) - 1, 0)} counts for {steps} steps",
            hint="is this QEMU's plugin interface older than 7.2?",
        )
    return InstructionCount([int(line) for line in lines[:-1]], int(stack[1]))


def _run(command: list[str], folder: str, where: str) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise ToolError("the emulator can't be started", where=command[0], why=error.strerror) from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"counting instructions took more than {TIMEOUT:.0f} s", where=where) from error
    if done.returncode == 0:
        return done.stdout
    words = done.stderr.strip()[-1000:] or f"the emulator ended with code {done.returncode}"
    if _PLUGIN_TROUBLE.search(words):
        raise ToolError(
            "this emulator takes no counting plugin",
            where=command[0],
            why=words,
            hint="install a QEMU that was built with plugins, 7.2 or newer (Debian's and Ubuntu's are)",
        )
    raise RunError("the instructions can't be counted", where=where, why=words.removeprefix("edgeq-count: "))
