"""One network on one number of threads, in stages that can be run apart: prepare, judge, time."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from case import Case
from common import CNNS, TRANSFORMERS, Zoo, environment, say
from turns import Side, Worker, prepare, race, spread

REFERENCE = "onnxruntime fp32"
STAGES = ("prepare", "judge", "time")
COLD_STARTS = 3


def sqnr(wanted: np.ndarray, found: np.ndarray) -> float:
    """dB; arrays of other shapes hold the same values in the same order (a batch axis more or less)."""
    signal = wanted.astype(np.float64).ravel()
    noise = float(np.square(signal - found.astype(np.float64).ravel()).sum())
    return 10 * math.log10(float(signal @ signal) / noise) if noise else 999.0


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """What holds for any number of threads."""
    timed = ("time", "clock", "ratios", "cold_seconds", "peak_bytes", "library_bytes")
    sides = {name: {k: v for k, v in row.items() if k not in timed} for name, row in result["sides"].items()}
    return {"sides": sides, "stages": {k: v for k, v in result["stages"].items() if k != "time"}}


class Measurement:
    """A network and its sides.

    Attributes:
        result: what is known so far, {model, threads, ours, sides, stages}; a stage adds to it, so that a later run
            goes on from the JSON of an earlier one.
    """

    def __init__(
        self, case: Case, sides: Sequence[Side], options: argparse.Namespace, threads: int, known: dict[str, Any]
    ) -> None:
        self.case, self.sides, self.options, self.threads = case, sides, options, threads
        self.folder = options.cache / case.name
        self.case_file = self.folder / "case.json"
        case.save(self.case_file)
        self.log = self.folder / "log.txt"
        self.result = {"model": case.name, "threads": threads, "sides": {}, "stages": {}} | known
        self.result["ours"] = [side.name for side in sides if side.runtime == "edgeq"]
        self.rows: dict[str, dict[str, Any]] = self.result["sides"]

    def lacking(self, stage: str) -> list[Side]:
        """The sides whose rows miss a stage and can run."""
        key = {"prepare": "path", "judge": "sqnr", "time": "time"}[stage]
        rows = [(side, self.rows.get(side.name, {})) for side in self.sides]
        return [side for side, row in rows if key not in row and "reason" not in row]

    def run(self, stage: str) -> None:
        """One stage. Judging keeps what is known of peers; a race has everybody in it."""
        lacking = self.lacking(stage)
        if not lacking and not self.options.again:
            return
        chosen = [side for side in self.sides if self.options.again or side in lacking]
        say(f"{self.case.name}, {self.threads} thread(s): {stage}")
        if stage == "prepare":
            self._prepare(chosen)
        elif stage == "judge":
            self._judge(chosen)
        else:
            self._time()
        self.result["stages"][stage] = environment()

    def _prepare(self, sides: Sequence[Side]) -> None:
        """Quantizes; who can't has a reason."""
        for side in sides:
            folder = self.folder / re.sub(r"\W+", "-", f"{side.runtime} {side.form}")
            if side.runtime == "edgeq" and folder.exists():
                shutil.rmtree(folder)  # the compiler may have changed; its kernels are cached elsewhere
            self.rows[side.name] = prepare(side, self.case_file, folder, self.log)
            if "reason" in self.rows[side.name]:
                say(f"  {side.name}: not run: {self.rows[side.name]['reason']}")

    def _start(self, side: Side) -> Worker:
        cores = ",".join(str(c) for c in self.options.cores[: self.threads])
        return Worker(side, self.case_file, Path(self.rows[side.name]["path"]), self.threads, cores, self.log)

    def _started(self, side: Side) -> Worker | None:
        """A worker that has loaded; the row says why another hasn't."""
        worker = self._start(side)
        self.rows[side.name] |= worker.loaded
        if "reason" not in worker.loaded:
            return worker
        worker.close()
        return None

    def _judge(self, sides: Sequence[Side]) -> None:
        """SQNR against the float reference, the zoo's metric, sizes: one process after the other."""
        with tempfile.TemporaryDirectory() as scratch:
            wanted = self._reference(Path(scratch))
            for side in sides:
                worker = self._started(side) if "path" in self.rows.get(side.name, {}) else None
                if worker is None:
                    continue
                row = self.rows[side.name]
                row["file_bytes"] = _size(Path(row["path"]))
                row["sqnr"] = sqnr(wanted, _outputs(worker, self.case.trial, Path(scratch)))
                if self.options.accuracy and self.case.name in (*CNNS, *TRANSFORMERS):
                    row["accuracy"] = self._accuracy(worker, Path(scratch))
                worker.close()
                say(f"  {side.name}: {row['sqnr']:.1f} dB {row.get('accuracy', '')}")

    def _reference(self, scratch: Path) -> np.ndarray:
        worker = self._start(next(side for side in self.sides if side.name == REFERENCE))
        wanted = _outputs(worker, self.case.trial, scratch)
        worker.close()
        return wanted

    def _accuracy(self, worker: Worker, scratch: Path) -> dict[str, float]:
        names = list(np.load(self.case.trial).files)

        def run(*arrays: np.ndarray) -> np.ndarray:
            given = scratch / "inputs.npz"
            np.savez(given, **dict(zip(names, arrays, strict=True)))
            return _outputs(worker, str(given), scratch)

        return Zoo(self.options.zoo).evaluate(self.case.name, run)

    def _time(self) -> None:
        """Everybody in turns, then cold starts."""
        clock = "cpu" if self.threads == 1 else "wall"
        workers: dict[str, Worker] = {}
        try:
            for side in self.sides:
                worker = self._started(side) if "path" in self.rows.get(side.name, {}) else None
                if worker:
                    workers[side.name] = worker
            times = race(workers, self.options.rounds, clock)
        finally:
            for worker in workers.values():
                worker.close()
        ours = {name: times[name] for name in self.result["ours"] if name in times}
        for name, values in times.items():
            ratios = {k: spread(values / v) for k, v in ours.items()}
            self.rows[name] |= {"time": spread(values), "clock": clock, "ratios": ratios}
        self._cold_starts([side for side in self.sides if side.name in times])

    def _cold_starts(self, sides: Sequence[Side]) -> None:
        found: dict[str, list[float]] = {side.name: [] for side in sides}
        for _ in range(COLD_STARTS):
            for side in sides:
                worker = self._start(side)
                found[side.name].append(worker.cold_seconds)
                worker.close()
        for name, values in found.items():
            self.rows[name]["cold_seconds"] = float(np.median(values))


def _outputs(worker: Worker, inputs: str, scratch: Path) -> np.ndarray:
    """All first outputs of a worker for the samples of an .npz."""
    to = scratch / "outputs.npy"
    worker.ask(do="outputs", inputs=inputs, to=str(to))
    return np.asarray(np.load(to))


def _size(file: Path) -> int:
    parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
    return sum(part.stat().st_size for part in parts)
