"""Runs an artifact of another architecture under QEMU's user-mode emulation, through a static `edgeq-run`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.artifact.read import read
from edgeq.errors import RunError, ToolError
from edgeq.runtime.arrays import Array, Inputs
from edgeq.runtime.build import runner
from edgeq.runtime.model import Profile
from edgeq.runtime.runner import RunnerModel

_TIMEOUT = 3600.0
# QEMU's name of an architecture, and a processor of it that has every feature an artifact may need.
_QEMU = {
    "x86_64": ("x86_64", "max"),
    "aarch64": ("aarch64", "max"),
    "armv7": ("arm", "max"),
    "riscv64": ("riscv64", "rv64,v=true,vext_spec=v1.0"),
}


def emulator(arch: str) -> Path:
    """QEMU's user-mode emulator for `arch`.

    Raises:
        ToolError: it isn't installed.
    """
    qemu = f"qemu-{_QEMU[arch][0]}"
    for name in (qemu, f"{qemu}-static"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise ToolError(
        f"{qemu} was not found",
        why=f"the artifact is for {arch}; this machine needs an emulator to run it",
        hint="apt-get install qemu-user (Debian, Ubuntu), or copy it to such a device and use edgeq-run there",
    )


def emulator_command(arch: str) -> list[str]:
    """The emulator with its processor: one that has everything, or what the environment variable QEMU_CPU says.

    Raises:
        ToolError: it isn't installed.
    """
    command = [str(emulator(arch))]
    return command if os.environ.get("QEMU_CPU") else [*command, "-cpu", _QEMU[arch][1]]


class EmulatedModel(RunnerModel):
    """An artifact for another architecture. Same values as on the device; its times say nothing about it."""

    def __init__(self, path: Path) -> None:
        artifact = read(path)
        arch = artifact.target.arch
        self._command = [*emulator_command(arch), str(runner(arch)), str(path.resolve())]
        super().__init__(artifact)

    def call(
        self, arguments: Sequence[str], files: Mapping[str, bytes] | None = None, wanted: Sequence[str] = ()
    ) -> tuple[str, dict[str, bytes]]:
        with tempfile.TemporaryDirectory(prefix="edgeq-emulate-") as folder:
            for name, content in (files or {}).items():
                (Path(folder) / name).write_bytes(content)
            printed = self._run(arguments, folder)
            return printed, {name: (Path(folder) / name).read_bytes() for name in wanted}

    def _run(self, arguments: Sequence[str], folder: str) -> str:
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunError(
                f"emulation took more than {_TIMEOUT / 60:.0f} minutes", hint="give it fewer samples"
            ) from error
        except OSError as error:
            raise ToolError("the emulator can't be started", where=self._command[0], why=error.strerror) from error
        if done.returncode != 0:
            words = done.stderr.strip().removeprefix("edgeq-run: ")
            raise RunError(
                "the emulated run failed",
                where=str(self.artifact.path),
                why=words[-1000:] or f"the emulator ended with code {done.returncode}",
            )
        return done.stdout

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        raise self._no_times()

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        raise self._no_times()

    def _no_times(self) -> RunError:
        return RunError(
            "times of an emulated run say nothing about the device",
            where=str(self.artifact.path),
            hint="time it on the device: edgeq bench --ssh user@host (or --adb)",
        )
