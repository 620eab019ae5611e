"""Run an artifact on inputs from a file, time it, check it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, UsageError
from edgeq.evaluate.dataset import load_dataset
from edgeq.evaluate.models import Port

if TYPE_CHECKING:
    from edgeq.board import Board
    from edgeq.runtime import Profile
    from edgeq.runtime.model import Model

Array = NDArray[Any]


@dataclass(frozen=True)
class Verification:
    """What `verify` found to be right.

    Attributes:
        artifact: the file. digest: BLAKE2b-256, hex. arch, abi: what it is for. steps: kernel calls of a run.
        file_bytes: its size. golden: vectors that came out as recorded, None if it wasn't run.
        digest_inside: the file holds its digest, which was checked; a WebAssembly module has none.
    """

    artifact: str
    digest: str
    arch: str
    abi: int
    steps: int
    file_bytes: int
    golden: int | None
    digest_inside: bool = True


def load(artifact: str | Path, board: Board | None) -> Model:
    """An artifact on a board, else here: in this process or under its emulator."""
    if board is not None:
        return board.load(artifact)
    from edgeq import runtime

    return runtime.load(artifact)


def run(
    artifact: str | Path,
    data: str | Path,
    *,
    raw: bool = False,
    samples: int | None = None,
    threads: int = 1,
    board: Board | None = None,
) -> dict[str, Array]:
    """Outputs for the samples of a file.

    Args:
        artifact: a foreign one runs under its emulator.
        data: .npz or .npy, n samples along the first axis; real numbers, or the integers that the inputs are.
        raw: give integers instead of real numbers.
        samples: run at most this many.
        threads: that share each run; results don't depend on it.
        board: run it there.

    Returns:
        output name → [n, …], float32 or the output's integer dtype.

    Raises:
        ArtifactError, ToolError: it can't be loaded here. DataError, RunError: the data doesn't fit.
    """
    model = load(artifact, board)
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


def bench(
    artifact: str | Path,
    *,
    data: str | Path | None = None,
    repeats: int = 50,
    threads: int = 1,
    board: Board | None = None,
) -> dict[str, float]:
    """Time whole runs of an artifact, without loading or moving data in and out.

    Args:
        artifact: for this machine, or for the board; a foreign one is refused: an emulator's time says nothing.
        data: inputs (the first sample is used); zeros by default. Integer kernels take the same time for any data.
        repeats: number of runs, after a few to warm up.
        threads: that share each run.
        board: time it there.

    Returns:
        seconds: median, p10, p90, min, and runs.
    """
    model = load(artifact, board)
    times = np.asarray(model.measure(first_sample(model, data), repeats=repeats, threads=threads)) * 1e-9
    p10, median, p90 = (float(p) for p in np.percentile(times, (10, 50, 90)))
    return {"median": median, "p10": p10, "p90": p90, "min": float(times.min()), "runs": len(times)}


def profile(
    artifact: str | Path,
    *,
    data: str | Path | None = None,
    repeats: int = 20,
    threads: int = 1,
    board: Board | None = None,
) -> Profile:
    """Time every step of an artifact; see `bench` for the arguments.

    Returns:
        for each step its name, op, multiply-accumulates and nanoseconds (median, least); nanoseconds of whole runs.
    """
    model = load(artifact, board)
    return model.profile(first_sample(model, data), repeats=repeats, threads=threads)


def verify(
    artifact: str | Path, *, hash_only: bool = False, threads: int = 1, board: Board | None = None
) -> Verification:
    """Check an artifact: digest, structure, and that its golden vectors come out bit by bit.

    Args:
        artifact: of any processor; running a foreign one needs its emulator.
        hash_only: don't run it.
        threads: that share each run.
        board: run it there.

    Raises:
        ArtifactError: damaged, or of another ABI. RunError: an output value differs. ToolError: no emulator.
    """
    from edgeq.artifact.kind import is_module
    from edgeq.artifact.read import read

    if is_module(Path(artifact)):
        return _verify_module(Path(artifact), hash_only, threads, board)
    parsed = read(artifact)
    vectors = None if hash_only else load(artifact, board).verify(threads=threads)
    return Verification(
        str(artifact),
        parsed.digest,
        parsed.target.arch,
        parsed.abi_version,
        len(parsed.image.steps),
        parsed.sizes.file,
        vectors,
    )


def _verify_module(path: Path, hash_only: bool, threads: int, board: Board | None) -> Verification:
    """The same for a WebAssembly module, under Node.js."""
    from hashlib import blake2b

    from edgeq.runtime.webassembly import WasmModel

    if board is not None:
        raise UsageError(
            "boards run artifacts of their own processor", where=str(path), hint="leave --ssh and --adb out"
        )
    model = WasmModel(path)
    vectors = None if hash_only else model.verify(threads=threads)
    content = path.read_bytes()
    digest = blake2b(content, digest_size=32).hexdigest()
    steps = len(model.manifest.get("layers", ()))
    return Verification(
        str(path), digest, "wasm32", int(model.manifest["format"]), steps, len(content), vectors, digest_inside=False
    )


def first_sample(model: Any, data: str | Path | None) -> dict[str, Array] | None:
    """One run's inputs in the model's shapes, or None for zeros."""
    if data is None:
        return None
    inputs = read_inputs(model, data, max((t.shape[0] if t.shape else 1) for t in model.inputs))
    return {t.name: inputs[t.name].reshape(t.shape) for t in model.inputs}
