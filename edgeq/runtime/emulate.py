"""Runs an artifact of another architecture under QEMU's user-mode emulation, through a static `edgeq-run`."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.artifact.read import read
from edgeq.errors import RunError, ToolError
from edgeq.runtime.arrays import Array, Inputs
from edgeq.runtime.build import runner
from edgeq.runtime.model import Model, Profile, check_threads

_TIMEOUT = 3600.0


def emulator(arch: str) -> Path:
    """QEMU's user-mode emulator for `arch`.

    Raises:
        ToolError: it isn't installed.
    """
    for name in (f"qemu-{arch}", f"qemu-{arch}-static"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise ToolError(
        f"qemu-{arch} was not found",
        why=f"the artifact is for {arch}; this machine needs an emulator to run it",
        hint="apt-get install qemu-user (Debian, Ubuntu), or copy it to such a device and use edgeq-run there",
    )


class EmulatedModel(Model):
    """An artifact for another architecture. Same values as on the device; its times say nothing about it."""

    def __init__(self, path: Path) -> None:
        super().__init__(read(path))
        arch = self.artifact.target.arch
        self._command = [str(emulator(arch)), str(runner(arch)), str(path.resolve())]
        self._run("--info")  # the loader there checks the file and the emulated CPU's features

    def _run(self, *arguments: str, folder: str | None = None) -> str:
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

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        check_threads(threads)
        with tempfile.TemporaryDirectory(prefix="edgeq-emulate-") as folder:
            options = [f"--threads={threads}", "--dequantize" if as_float else "--integers"]
            # By position and in the folder itself: tensor names and paths may hold anything, also "=".
            for index, array in enumerate(arrays):
                np.save(Path(folder) / f"input{index}.npy", array)
                options.append(f"--input=input{index}.npy")
            self._run(*options, "--output=outputs.npz", folder=folder)
            with np.load(Path(folder) / "outputs.npz", allow_pickle=False) as outputs:
                found = [outputs[name] for name in outputs.files]
        return [array.reshape((runs, *t.shape)) for array, t in zip(found, self.outputs, strict=True)]

    def verify(self, *, threads: int = 1) -> int:
        check_threads(threads)
        printed = self._run("--verify", f"--threads={threads}")
        found = re.search(r"^(\d+) golden vectors", printed, re.MULTILINE)
        if found is None:
            raise RunError("edgeq-run said nothing about the golden vectors", why=printed[-500:])
        return int(found[1])

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        raise self._no_times()

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        raise self._no_times()

    def _no_times(self) -> RunError:
        return RunError(
            "times of an emulated run say nothing about the device",
            where=str(self.artifact.path),
            hint="copy the artifact and edgeq-run to the device and use --profile or --repeat there",
        )
