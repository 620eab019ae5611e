"""edgeq against ONNX Runtime, OpenVINO and LiteRT: the same networks and inputs, in turns, on pinned cores.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers/requirements.txt -c constraints.txt
    python benchmarks/peers --python peers/bin/python --json peers.json --tables peers.md

Each runtime is a process of its own; in every round each one runs a burst. Ratios are medians over rounds of (peer's
time / edgeq's time): above 1 edgeq is faster. With one thread times are processor time, with several wall time. Every
runtime uses all instruction sets of the processor, edgeq those of the target (a column each); --hold-avx2 adds the
peers as they run where there is AVX2 and nothing newer. SQNR is against ONNX Runtime's fp32 on the trial samples.
Interrupted runs go on: networks that --json already has are not measured again (--again does), quantized files are
kept in --cache.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import hold
import numpy as np
from case import Case
from common import CNNS, TRANSFORMERS, Zoo, environment, say
from models import ALL, case_of
from table import bars, markdown, summary
from turns import Side, Worker, prepare, python_of, race, spread

REFERENCE = "onnxruntime fp32"
PEERS = {
    "onnxruntime": ("fp32", "int8 static", "int8 dynamic"),
    "openvino": ("fp32", "int8 NNCF"),
    "litert": ("fp32", "int8 static"),
}
COLD_STARTS = 3


def sides_of(options: argparse.Namespace) -> list[Side]:
    """All that run, edgeq's targets first."""
    ours = [Side("edgeq", target, python_of("edgeq", options.python)) for target in options.target]
    chosen = dict.fromkeys(["onnxruntime", *options.peers])  # its fp32 is the reference of SQNR
    peers = [Side(peer, form, python_of(peer, options.python)) for peer in chosen for form in PEERS[peer]]
    if options.hold_avx2:
        extra = {peer: hold.environment(python_of(peer, options.python), peer, options.cache) for peer in chosen}
        peers += [replace(side, extra=tuple(extra[side.runtime].items()), note=" (AVX2)") for side in peers]
    return ours + peers


def sqnr(wanted: np.ndarray, found: np.ndarray) -> float:
    """dB; arrays of other shapes hold the same values in the same order (a batch axis more or less)."""
    signal = wanted.astype(np.float64).ravel()
    noise = float(np.square(signal - found.astype(np.float64).ravel()).sum())
    return 10 * math.log10(float(signal @ signal) / noise) if noise else 999.0


class Measurement:
    """One network on one number of threads."""

    def __init__(self, case: Case, options: argparse.Namespace, zoo: Zoo, threads: int) -> None:
        self.case, self.options, self.zoo, self.threads = case, options, zoo, threads
        self.folder = options.cache / case.name
        self.case_file = self.folder / "case.json"
        case.save(self.case_file)
        self.log = self.folder / "log.txt"
        self.rows: dict[str, dict[str, Any]] = {}
        self.files: dict[Side, Path] = {}

    def prepare(self) -> None:
        """Quantizes for every side; who can't has a reason."""
        for side in sides_of(self.options):
            folder = self.folder / re.sub(r"\W+", "-", f"{side.runtime} {side.form}")
            if side.runtime == "edgeq" and folder.exists():
                shutil.rmtree(folder)  # the compiler may have changed; its kernels are cached elsewhere
            answer = prepare(side, self.case_file, folder, self.log)
            self.rows[side.name] = {k: v for k, v in answer.items() if k != "path"}
            if "reason" in answer:
                say(f"  {side.name}: not run: {answer['reason']}")
            else:
                self.files[side] = Path(answer["path"])

    def start(self, side: Side) -> Worker:
        """A fresh process."""
        cores = ",".join(str(c) for c in self.options.cores[: self.threads])
        return Worker(side, self.case_file, self.files[side], self.threads, cores, self.log)

    def run(self) -> dict[str, Any]:
        """Everything about this network."""
        self.prepare()
        workers: dict[str, Worker] = {}
        try:
            for side in self.files:
                worker = self.start(side)
                self.rows[side.name] |= worker.loaded | {"file_bytes": self._size(side)}
                if "reason" in worker.loaded:
                    worker.close()
                else:
                    workers[side.name] = worker
            self._outputs(workers)
            self._times(workers)
        finally:
            for worker in workers.values():
                worker.close()
        self._cold_starts(workers)
        ours = [f"edgeq {target}" for target in self.options.target]
        return {"model": self.case.name, "threads": self.threads, "ours": ours, "sides": self.rows}

    def _size(self, side: Side) -> int:
        file = self.files[side]
        parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
        return sum(part.stat().st_size for part in parts)

    def _outputs(self, workers: dict[str, Worker]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            to = Path(scratch) / "outputs.npy"

            def outputs(worker: Worker, inputs: str) -> np.ndarray:
                worker.ask(do="outputs", inputs=inputs, to=str(to))
                return np.asarray(np.load(to))

            wanted = outputs(workers[REFERENCE], self.case.trial)
            for name, worker in workers.items():
                self.rows[name]["sqnr"] = sqnr(wanted, outputs(worker, self.case.trial))
                if self.options.accuracy and self.case.name in (*CNNS, *TRANSFORMERS):
                    self.rows[name]["accuracy"] = self._accuracy(worker, outputs, Path(scratch))
                say(f"  {name}: {self.rows[name]['sqnr']:.1f} dB {self.rows[name].get('accuracy', '')}")

    def _accuracy(self, worker: Worker, outputs: Any, scratch: Path) -> dict[str, float]:
        names = list(np.load(self.case.trial).files)

        def run(*arrays: np.ndarray) -> np.ndarray:
            given = scratch / "inputs.npz"
            np.savez(given, **dict(zip(names, arrays, strict=True)))
            found: np.ndarray = outputs(worker, str(given))
            return found

        return self.zoo.evaluate(self.case.name, run)

    def _times(self, workers: dict[str, Worker]) -> None:
        clock = "cpu" if self.threads == 1 else "wall"
        times = race(workers, self.options.rounds, clock)
        for name, values in times.items():
            ours = {k: v for k, v in times.items() if k.startswith("edgeq ")}
            self.rows[name] |= {
                "time": spread(values),
                "clock": clock,
                "ratios": {k: spread(values / v) for k, v in ours.items()},
            }

    def _cold_starts(self, workers: dict[str, Worker]) -> None:
        found: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(COLD_STARTS):
            for side in self.files:
                if side.name in found:
                    worker = self.start(side)
                    found[side.name].append(worker.cold_seconds)
                    worker.close()
        for name, values in found.items():
            self.rows[name]["cold_seconds"] = float(np.median(values))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--models", nargs="+", default=list(ALL), choices=ALL, metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument(
        "--target",
        nargs="+",
        default=["x86-avx2", "x86-avx2:w7", "x86-vnni"],
        help="edgeq's targets; x86-avx2:w4: weights of 4 bits",
    )
    parser.add_argument("--python", help="interpreter of the environment that has the peers (default: this one)")
    parser.add_argument("--hold-avx2", action="store_true", help="peers once more without AVX-512 and VNNI (hold.py)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--cores", type=int, nargs="+", default=[0, 1, 2, 3], help="the first of them are used")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--accuracy", action="store_true", help="the zoo's metric for every runtime, all samples")
    parser.add_argument("--zoo", type=Path, default=here.parent / "shared" / "zoo")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgeq-peers")
    parser.add_argument("--json", type=Path, help="results; extended after every network")
    parser.add_argument("--again", action="store_true", help="measure what --json already has")
    parser.add_argument("--tables", type=Path, help="Markdown file to write")
    parser.add_argument("--plots", type=Path, help="folder for SVG plots")
    options = parser.parse_args()
    if max(options.threads) > len(options.cores):
        parser.error(f"{max(options.threads)} threads need as many --cores")
    return options


def main() -> None:
    options = arguments()
    done: list[dict[str, Any]] = []
    if options.json and options.json.is_file():
        done = json.loads(options.json.read_text(encoding="utf-8"))["results"]
    zoo = Zoo(options.zoo)
    for number, name in enumerate(options.models, 1):
        for threads in options.threads:
            known = [r for r in done if (r["model"], r["threads"]) == (name, threads)]
            if known and not options.again:
                continue
            say(f"{number} of {len(options.models)}: {name}, {threads} thread(s)")
            case = case_of(name, zoo, options.cache / name)
            result = Measurement(case, options, zoo, threads).run() | environment()
            done = [r for r in done if r not in known] + [result]
            print(markdown(result), flush=True)
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text(json.dumps({"benchmark": "peers", "results": done}, indent=1) + "\n")
    shown = [r for r in done if r["model"] in options.models and r["threads"] in options.threads]
    print(summary(shown))
    if options.tables:
        options.tables.write_text(summary(shown) + "\n" + "\n".join(markdown(r) for r in shown), encoding="utf-8")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for result in shown:
            (options.plots / f"peers-{result['model']}-{result['threads']}.svg").write_text(bars(result))


if __name__ == "__main__":
    main()
