"""An artifact that `edgeq-run` executes somewhere else: under an emulator, or on a board."""

from __future__ import annotations

import copy
import io
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.artifact.read import Artifact
from edgeq.errors import RunError
from edgeq.runtime.arrays import Array, Inputs
from edgeq.runtime.model import Model, Profile, StepTime, check_threads

TIMES = "times.npy"
OUTPUTS = "outputs.npz"


class RunnerModel(Model):
    """A model behind `edgeq-run`: arrays travel as files, messages come back as errors."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        # The loader there checks the file, and chooses the variant.
        printed, _ = self.call(["--info"])
        found = re.search(r"^variant (\d+)", printed, re.MULTILINE)
        if found is None or int(found[1]) >= len(artifact.variants):
            raise RunError("edgeq-run said nothing about the artifact's variant", why=printed[-500:])
        self.variant = self._best = int(found[1])

    def _selected(self, variant: int, program: int | None) -> Model:
        view = copy.copy(self)
        view.variant, view.program = variant, program
        return view

    def _which(self) -> list[str]:
        """Options that make `edgeq-run` take this model's part of the artifact."""
        words = [] if self.variant == self._best else [f"--variant={self.variant}"]
        return words if self.program is None else [*words, f"--program={self.program}"]

    @abstractmethod
    def call(
        self, arguments: Sequence[str], files: Mapping[str, bytes] | None = None, wanted: Sequence[str] = ()
    ) -> tuple[str, dict[str, bytes]]:
        """Run `edgeq-run MODEL arguments…` in a folder of its own.

        Args:
            arguments: options; file names in them are relative to that folder.
            files: what lies in it before. wanted: names to bring back.

        Returns:
            what it printed, and the wanted files.

        Raises:
            RunError: it refused. ToolError: it can't be started.
        """

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        check_threads(threads)
        files, options = _input_files(arrays)
        options += [
            *self._which(),
            f"--threads={threads}",
            "--dequantize" if as_float else "--integers",
            f"--output={OUTPUTS}",
        ]
        _, found = self.call(options, files, [OUTPUTS])
        with np.load(io.BytesIO(found[OUTPUTS]), allow_pickle=False) as outputs:
            values = [outputs[name] for name in outputs.files]
        return [array.reshape((runs, *t.shape)) for array, t in zip(values, self.outputs, strict=True)]

    def verify(self, *, threads: int = 1) -> int:
        check_threads(threads)
        printed, _ = self.call(["--verify", *self._which(), f"--threads={threads}"])
        found = re.search(r"^(\d+) golden vectors", printed, re.MULTILINE)
        if found is None:
            raise RunError("edgeq-run said nothing about the golden vectors", why=printed[-500:])
        return int(found[1])

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        model, arrays = self._one(inputs)
        assert isinstance(model, RunnerModel)
        times = model._times(arrays, repeats, threads, ["--profile"]).reshape(-1, len(model.steps))
        medians, least, totals = np.median(times, axis=0), times.min(axis=0), times.sum(axis=1)
        steps = [StepTime(s, float(m), float(b)) for s, m, b in zip(model.steps, medians, least, strict=True)]
        return Profile(steps, float(np.median(totals)), float(totals.min()), repeats, threads)

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        model, arrays = self._one(inputs)
        assert isinstance(model, RunnerModel)
        return model._times(arrays, repeats, threads, [])

    def _times(self, arrays: Sequence[Array], repeats: int, threads: int, options: list[str]) -> Array:
        """Nanoseconds of each run or step. `edgeq-run` itself runs once before, to warm up."""
        check_threads(threads)
        if repeats < 1:
            raise RunError(f"{repeats} repeats", why="at least one is needed")
        files, given = _input_files(arrays)
        words = [*given, *self._which(), *options, f"--repeat={repeats}", f"--threads={threads}", f"--times={TIMES}"]
        _, found = self.call(words, files, [TIMES])
        times: Array = np.load(io.BytesIO(found[TIMES]), allow_pickle=False)
        return times.astype(np.float64)


def _input_files(arrays: Sequence[Array]) -> tuple[dict[str, bytes], list[str]]:
    """By position: tensor names may hold anything, also '='."""
    files, options = {}, []
    for index, array in enumerate(arrays):
        file = io.BytesIO()
        np.save(file, array)
        files[f"input{index}.npy"] = file.getvalue()
        options.append(f"--input=input{index}.npy")
    return files, options
