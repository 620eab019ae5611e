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
Clock = Callable[[], float]
BURST_SECONDS = 0.01
FEWEST_ROUNDS, MOST_ROUNDS = 41, 200


def race(
    artifact: str | Path,
    model: str | Path,
    *,
    data: str | Path | None = None,
    repeats: int = 100,
    threads: int = 1,
) -> dict[str, Any]:
    """Time both in alternating bursts: floats in and out on either side, and the artifact on integers.

    All sides are measured alike, as the mean of a burst. With one thread that is the thread's processor time: on a busy
    machine wall time counts the others' turns as well, and counts more of them for whoever runs longer. Neither
    side pays for Python: the artifact runs batches in C, converting its data for each sample, and ONNX Runtime gets
    bound inputs and outputs, which leaves it about 2 µs a run.

    Args:
        artifact: a compiled artifact for this machine.
        model: the float model it was made from.
        data: inputs (the first sample); by default seeded normal noise, the same for both.
        repeats: bursts are repeated until each side has run at least this often.
        threads: for both; above 1 the clock is wall time, since processor time of one thread says little.

    Returns:
        median seconds of one run: artifact, onnxruntime; integer: the artifact with integers in and out;
        ratio: the median over rounds of onnxruntime / artifact (above 1: the artifact is faster); ratio_integer;
        ratio_p10, ratio_p90: its spread; rounds; clock: "cpu" or "wall".
    """
    from edgeq import runtime

    compiled = runtime.load(artifact)
    feeds = first_sample(compiled, data) or _noise(compiled)
    session = _session(model, threads, feeds)
    binding = _bound(session, [feeds[t.name] for t in compiled.inputs])
    integers = {t.name: np.zeros(t.shape, t.numpy_dtype) for t in compiled.inputs}
    clock = time.thread_time if threads == 1 else time.perf_counter
    sides: list[Callable[[int], float]] = [
        lambda n: _batch(compiled, feeds, n, threads, clock),
        lambda n: _loop(lambda: session.run_with_iobinding(binding), n, clock),
        lambda n: _batch(compiled, integers, n, threads, clock),
    ]
    bursts = [max(1, min(1000, int(BURST_SECONDS / max(side(3), 1e-6)))) for side in sides]
    rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, -(-repeats // min(bursts))))
    times = np.array([[side(n) for side, n in zip(sides, bursts, strict=True)] for _ in range(rounds)])
    ours, theirs, integer = np.median(times, axis=0)
    p10, ratio, p90 = np.percentile(times[:, 1] / times[:, 0], (10, 50, 90))
    return {
        "artifact": float(ours),
        "onnxruntime": float(theirs),
        "integer": float(integer),
        "ratio": float(ratio),
        "ratio_p10": float(p10),
        "ratio_p90": float(p90),
        "ratio_integer": float(np.median(times[:, 1] / times[:, 2])),
        "rounds": len(times),
        "clock": "cpu" if threads == 1 else "wall",
    }


def _batch(compiled: Any, feeds: dict[str, Array], count: int, threads: int, clock: Clock) -> float:
    """Mean seconds of a run over `count` runs in C; the outputs are floats where the inputs are."""
    samples = {name: np.repeat(x[None], count, axis=0) for name, x in feeds.items()}
    start = clock()
    compiled.run_batch(samples, threads=threads)
    return (clock() - start) / count


def _loop(run: Callable[[], Any], count: int, clock: Clock) -> float:
    """Mean seconds of a run over `count` runs."""
    start = clock()
    for _ in range(count):
        run()
    return (clock() - start) / count


def _bound(session: Any, values: list[Array]) -> Any:
    """Inputs and outputs bound once, so that a run moves no data through Python."""
    binding = session.io_binding()
    for given, value in zip(session.get_inputs(), values, strict=True):
        binding.bind_cpu_input(given.name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return binding


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
