"""Workers taking turns, and what their times say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
BURST_SECONDS = 0.03


@dataclass(frozen=True)
class Side:
    """One runtime in one form.

    Attributes:
        python: the interpreter that has it; extra: environment variables on top; note: behind its name.
    """

    runtime: str
    form: str
    python: str
    extra: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """As the tables print it."""
        return f"{self.runtime} {self.form}{self.note}"


class Worker:
    """A served network.

    Attributes:
        cold_seconds: from the start of the process to its first output.
        loaded: what the worker said then, {peak_bytes, library_bytes} or {reason}.
    """

    def __init__(self, side: Side, case: Path, file: Path, threads: int, cores: str, log: Path) -> None:
        command = [
            side.python,
            str(WORKER),
            "serve",
            side.runtime,
            side.form,
            str(case),
            str(file),
            str(threads),
            cores,
        ]
        self.log = log.open("ab")
        start = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | dict(side.extra),
        )
        self.loaded = self._answer()
        self.cold_seconds = time.perf_counter() - start

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"reason": f"the process ended with status {self.process.wait()}"}
        return dict(json.loads(line))

    def ask(self, **command: Any) -> dict[str, Any]:
        """Answer to one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        self.log.close()


def prepare(side: Side, case: Path, folder: Path, log: Path) -> dict[str, Any]:
    """Quantizes or converts in the runtime's own interpreter; the answer is kept in the folder and found again."""
    note = folder / "prepared.json"
    if note.is_file():
        return dict(json.loads(note.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    command = [side.python, str(WORKER), "prepare", side.runtime, side.form, str(case), str(folder)]
    with log.open("ab") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    lines = done.stdout.splitlines()
    answer = dict(json.loads(lines[-1])) if lines else {"reason": f"the tool ended with status {done.returncode}"}
    note.write_text(json.dumps(answer), encoding="utf-8")
    return answer


def race(workers: dict[str, Worker], rounds: int, clock: str) -> dict[str, np.ndarray]:
    """Seconds of a run by side and round, every side once a round, in turns."""
    counts = {}
    for name, worker in workers.items():
        taken = min(worker.ask(do="burst", count=3)["wall"] for _ in range(2))
        counts[name] = max(2, min(2000, int(BURST_SECONDS / max(taken, 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in workers}
    order = list(workers)
    for _ in range(rounds):
        for name in order:
            times[name].append(workers[name].ask(do="burst", count=counts[name])[clock])
        order.reverse()  # nobody always runs behind the same neighbour
    return {name: np.array(values) for name, values in times.items()}


def spread(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    return {"median": median, "q1": low, "q3": high}


def python_of(runtime: str, peers: str | None) -> str:
    """edgeq runs in this interpreter, its peers in theirs."""
    return peers or sys.executable if runtime != "edgeq" else sys.executable
