"""An artifact against ONNX Runtime on the float model, in turns: on a shared machine only ratios mean something."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.evaluate.execute import first_sample
from edgeq.evaluate.models import first_line

Array = NDArray[Any]
BURST_SECONDS = 0.02


def race(
    artifact: str | Path,
    model: str | Path,
    *,
    data: str | Path | None = None,
    repeats: int = 100,
    threads: int = 1,
) -> dict[str, float]:
    """Time both in alternating bursts, float in and float out on either side.

    Args:
        artifact: a compiled artifact for this machine.
        model: the float model it was made from.
        data: inputs (the first sample); by default seeded normal noise, the same for both.
        repeats: bursts are repeated until each side has run at least this often.
        threads: for both.

    Returns:
        median seconds of one run: artifact, onnxruntime; integer: the artifact without conversion of its data;
        ratio: the median over rounds of onnxruntime / artifact (above 1: the artifact is faster); ratio_integer.
    """
    from edgeq import runtime

    compiled = runtime.load(artifact)
    feeds = first_sample(compiled, data) or _noise(compiled)
    session = _session(model, threads, feeds)
    names = [o.name for o in session.get_outputs()]
    own = {i.name: feeds[t.name] for i, t in zip(session.get_inputs(), compiled.inputs, strict=True)}
    sides: list[Callable[[int], float]] = [
        lambda n: _loop(lambda: compiled.run(feeds, threads=threads, dequantize=True), n),
        lambda n: _loop(lambda: session.run(names, own), n),
        lambda n: float(np.median(compiled.measure(feeds, repeats=n, threads=threads))) * 1e-9,
    ]
    bursts = [max(1, int(BURST_SECONDS / max(side(3), 1e-6))) for side in sides]
    rounds = max(5, -(-repeats // min(bursts)))
    times = np.array([[side(n) for side, n in zip(sides, bursts, strict=True)] for _ in range(min(rounds, 200))])
    ours, theirs, integer = np.median(times, axis=0)
    return {
        "artifact": float(ours),
        "onnxruntime": float(theirs),
        "integer": float(integer),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
        "ratio_integer": float(np.median(times[:, 1] / times[:, 2])),
        "rounds": len(times),
    }


def _loop(run: Callable[[], Any], count: int) -> float:
    """Median seconds of `count` runs."""
    times = np.empty(count)
    for index in range(count):
        start = time.perf_counter()
        run()
        times[index] = time.perf_counter() - start
    return float(np.median(times))


def _noise(compiled: Any) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {t.name: generator.standard_normal(t.shape, dtype=np.float32) for t in compiled.inputs}


def _session(model: str | Path, threads: int, feeds: dict[str, Array]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise ModelError("ONNX Runtime can't run the model", where=str(model), why=first_line(error)) from error
    if len(session.get_inputs()) != len(feeds):
        raise ModelError(
            "the model and the artifact take different inputs",
            where=str(model),
            why=f"{len(session.get_inputs())} inputs, the artifact has {len(feeds)}",
        )
    return session
