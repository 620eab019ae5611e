"""edgeq: a form is a target, e.g. `x86-avx2`, or a target and the bits of all weights, e.g. `x86-avx2:w7`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from case import Case, Feeds

_BATCH_BYTES, _LEAST_RUNS = 2 * 1024 * 1024, 4  # the latter bounds what calling from Python adds to a run
FORMS = ("x86-avx2", "x86-avx2:w7", "x86-vnni")


def prepare(form: str, case: Case, folder: Path) -> Path:
    """An artifact, default options, the same calibration samples as the others. Random weights gain nothing from being
    rounded with care: there the recipe is the fast one. ResNets stay in 8 bits as with the others: noise through random
    layers asks for 16 bits here and there, which no trained CNN of the zoo does between its ends."""
    import edgeq

    path = folder / "model.edgeq"
    target, _, bits = form.partition(":w")
    policy = folder / "policy.yaml"
    kept = ", activation: s8" if (case.network or "").startswith("resnet") else ""
    policy.write_text(f"version: 1\ndefaults: {{weight_bits: {bits or 8}{kept}}}\n")
    recipe = "fast" if case.network else "default"
    edgeq.compile(case.model, target=target, calib=case.calibration, policy=policy, recipe=recipe, output=path)
    return path


class _Session:
    def __init__(self, path: Path, threads: int) -> None:
        import edgeq

        self.model, self.threads = edgeq.load(path), threads
        self.names = [given.name for given in self.model.inputs]
        self.batches: dict[int, Feeds] = {}

    def _batch(self, feeds: Feeds, count: int) -> Feeds:
        values = [feeds[name] for name in self.names] if set(self.names) <= set(feeds) else list(feeds.values())
        return {name: np.repeat(x, count, axis=0) for name, x in zip(self.names, values, strict=True)}

    def run(self, feeds: Feeds) -> np.ndarray:
        found = self.model.run_batch(self._batch(feeds, 1), threads=self.threads, dequantize=True)
        return np.asarray(found[self.model.outputs[0].name], np.float32)

    def repeat(self, feeds: Feeds, count: int) -> None:
        # Batches that stay in the second cache: the others read one bound input again and again too.
        size = max(_LEAST_RUNS, _BATCH_BYTES // sum(np.asarray(value).nbytes for value in feeds.values()))
        for start in range(0, count, size):
            runs = min(size, count - start)
            if runs not in self.batches:
                self.batches[runs] = self._batch(feeds, runs)
            self.model.run_batch(self.batches[runs], threads=self.threads)  # in C, converting from and to floats


def load(form: str, path: Path, threads: int) -> _Session:
    """The mapped artifact."""
    return _Session(path, threads)


def versions() -> dict[str, str]:
    """Of edgeq."""
    import edgeq

    return {"edgeq": edgeq.__version__}
