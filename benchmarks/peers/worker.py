"""One runtime in a process of its own, told over stdin what to do; answers are JSON lines on stdout.

    worker.py prepare RUNTIME FORM CASE FOLDER           quantizes or converts
    worker.py serve RUNTIME FORM CASE FILE THREADS CORES

`serve` first answers with what loading took and mapped, after the first output; then each line of stdin is a command:
{"do": "burst", "count": n} -> seconds of n runs; {"do": "outputs", "inputs": .npz, "to": .npy} -> all first outputs.
Runtimes live apart so that none of them spins, allocates or sets thread counts in another's process.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, Feeds, Runtime, Session, Unsupported, samples, single

RUNTIMES = {
    "onnxruntime": "onnxruntime_peer",
    "openvino": "openvino_peer",
    "litert": "litert_peer",
    "edgeq": "edgeq_peer",
}


def runtime(name: str) -> Runtime:
    """The module of a runtime."""
    module: Any = importlib.import_module(RUNTIMES[name])
    return module  # type: ignore[no-any-return]  # modules satisfy protocols


def mapped_files() -> dict[str, int]:
    """Shared libraries in this process -> bytes of the file."""
    names = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = (Path(name) for name in names if name.startswith("/") and ".so" in name)
    return {str(path): path.stat().st_size for path in libraries if path.is_file()}


def resident_peak() -> int:
    """Bytes: the most memory this process has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def prepare(name: str, form: str, case: Case, folder: Path) -> dict[str, Any]:
    """{path, seconds, versions} or {reason}: whatever a peer's tool raises is why the table has no figure."""
    start = time.perf_counter()
    try:
        peer = runtime(name)
        path = peer.prepare(form, case, folder)
        return {"path": str(path), "seconds": time.perf_counter() - start, "versions": peer.versions()}
    except Unsupported as error:
        return {"reason": str(error)}
    except Exception as error:  # a foreign tool may raise anything
        text = str(error).strip()
        return {"reason": f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"[:300]}


def _burst(session: Session, feeds: Feeds, count: int) -> dict[str, float]:
    """Mean seconds of a run. The others ran in between: one run brings data and code back first."""
    session.repeat(feeds, 1) if count > 1 else None
    wall, used = time.perf_counter(), time.process_time()
    session.repeat(feeds, count)
    return {"wall": (time.perf_counter() - wall) / count, "cpu": (time.process_time() - used) / count}


def _outputs(session: Session, inputs: str, to: str) -> dict[str, Any]:
    feeds = samples(inputs)
    count = len(next(iter(feeds.values())))
    np.save(to, np.concatenate([session.run(single(feeds, index)) for index in range(count)]))
    return {"count": count}


def serve(name: str, form: str, case: Case, path: Path, threads: int, answers: Any) -> None:
    """Loads, runs once, reports, then obeys."""

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    feeds = single(samples(case.trial), 0)
    before, libraries = resident_peak(), mapped_files()
    try:
        session = runtime(name).load(form, path, threads)
        session.run(feeds)
    except Exception as error:  # as above
        answer({"reason": f"{type(error).__name__}: {error}"[:300]})
        return
    new = {name: size for name, size in mapped_files().items() if name not in libraries and name != str(path)}
    answer({"peak_bytes": resident_peak() - before, "library_bytes": sum(new.values())})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "burst":
            answer(_burst(session, feeds, command["count"]))
        else:
            answer(_outputs(session, command["inputs"], command["to"]))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    mode, name, form, case, place, *rest = sys.argv[1:]
    if mode == "prepare":
        answers.write(json.dumps(prepare(name, form, Case.load(Path(case)), Path(place))) + "\n")
        answers.flush()
        return
    threads, cores = int(rest[0]), {int(core) for core in rest[1].split(",")}
    os.sched_setaffinity(0, cores)
    serve(name, form, Case.load(Path(case)), Path(place), threads, answers)


if __name__ == "__main__":
    main()
