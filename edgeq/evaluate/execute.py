"""Run an artifact on inputs from a file, and time it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError
from edgeq.evaluate.dataset import load_dataset
from edgeq.evaluate.models import Port

Array = NDArray[Any]


def run_file(
    artifact: str | Path, data: str | Path, *, raw: bool = False, samples: int | None = None, threads: int = 1
) -> dict[str, Array]:
    """Outputs for the samples of a file.

    Args:
        artifact: a foreign one runs under its emulator.
        data: .npz or .npy, n samples along the first axis; real numbers, or the integers that the inputs are.
        raw: give integers instead of real numbers.
        samples: run at most this many.
        threads: that share each run; results don't depend on it.

    Returns:
        output name → [n, …], float32 or the output's integer dtype.

    Raises:
        ArtifactError, ToolError: it can't be loaded here. DataError, RunError: the data doesn't fit.
    """
    from edgeq import runtime

    model = runtime.load(artifact)
    inputs = read_inputs(model, data, samples)
    return dict(model.run_batch(inputs, threads=threads, dequantize=not raw))


def read_inputs(model: Any, data: str | Path, samples: int | None) -> dict[str, Array]:
    """Samples for a loaded artifact, integers kept where they are the input's own dtype."""
    own = _quantized_inputs(model, Path(data), samples)
    if own is not None:
        return own
    ports = [Port(t.name, tuple(t.shape), t.dtype) for t in model.inputs]
    return dict(load_dataset(data, ports, limit=samples).inputs)


def _quantized_inputs(model: Any, path: Path, samples: int | None) -> dict[str, Array] | None:
    """The arrays of an .npz that already hold the integers of every input, else None."""
    if path.suffix != ".npz" or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {t.name: archive[t.name] for t in model.inputs if t.name in archive.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError("an .npz file can't be read", where=str(path), why=str(error)) from error
    fits = all(t.name in arrays and arrays[t.name].dtype == t.numpy_dtype for t in model.inputs)
    return {name: x[:samples] for name, x in arrays.items()} if fits else None


def measure(
    artifact: str | Path, *, data: str | Path | None = None, repeats: int = 50, threads: int = 1
) -> dict[str, float]:
    """Time whole runs of an artifact, without loading or moving data in and out.

    Args:
        artifact: for this machine; a foreign one is timed under its emulator, which says nothing about the device.
        data: inputs (the first sample is used); zeros by default. Integer kernels take the same time for any data.
        repeats: number of runs, after a few to warm up.
        threads: that share each run.

    Returns:
        seconds: median, p10, p90, min, and runs.
    """
    from edgeq import runtime

    model = runtime.load(artifact)
    times = np.asarray(model.measure(first_sample(model, data), repeats=repeats, threads=threads)) * 1e-9
    p10, median, p90 = (float(p) for p in np.percentile(times, (10, 50, 90)))
    return {"median": median, "p10": p10, "p90": p90, "min": float(times.min()), "runs": len(times)}


def first_sample(model: Any, data: str | Path | None) -> dict[str, Array] | None:
    """One run's inputs in the model's shapes, or None for zeros."""
    if data is None:
        return None
    inputs = read_inputs(model, data, max((t.shape[0] if t.shape else 1) for t in model.inputs))
    return {t.name: inputs[t.name].reshape(t.shape) for t in model.inputs}
