"""Evaluation data: the inputs, read as calibration data is, and labels `y`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError
from edgeq.evaluate.models import Port

Array = NDArray[Any]
LABELS = "y"


@dataclass(frozen=True)
class Dataset:
    """Samples and what is expected of them.

    Attributes:
        inputs: input name → [n, …] in the dtype the model reads (float32 where it computes with integers).
        labels: [n] or [n, …], None where the file has no `y`.
    """

    inputs: dict[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def load_dataset(
    path: str | Path, ports: Sequence[Port], *, limit: int | None = None, preprocess: str | None = None
) -> Dataset:
    """Read and check evaluation data.

    Args:
        path: .npz with one array [n, …] an input, under the input's name or, where the model has a single input, `x`;
            labels under `y`. Also an .npy, a folder of .npy, or a folder of images (without labels).
        ports: the model's inputs.
        limit: use at most this many samples.
        preprocess: for images: YAML text or file, how a picture becomes an input.

    Raises:
        DataError: unreadable file, missing or unknown names, wrong shape or dtype, NaN, different numbers of samples.
    """
    from edgeq.quantize.samples.data import InputSpec, load
    from edgeq.quantize.samples.preprocess import Preprocess

    specs = tuple(InputSpec(p.name, _sample_shape(p, Path(path)), np.dtype(input_dtype(p))) for p in ports)
    spec = Preprocess.parse(preprocess) if preprocess else None
    data = load(path, specs, preprocess=spec, limit=limit)
    labels = None if any(p.name == LABELS for p in ports) else _labels(Path(path))
    if labels is not None:
        labels = labels[:limit]
        if len(labels) != len(data):
            raise DataError(
                "labels and samples differ in number",
                where=str(path),
                why=f"y has {len(labels)} entries for {len(data)} samples",
            )
    return Dataset(dict(data.arrays), labels)


def input_dtype(port: Port) -> str:
    """The dtype that data for this input has: real numbers, also where the model quantizes them itself."""
    return "float32" if port.dtype in ("int8", "uint8", "int16") else port.dtype


def _sample_shape(port: Port, path: Path) -> tuple[int, ...]:
    """The input's shape with a leading batch axis; what the model leaves open is taken from the data."""
    sizes = (port.shape[0] or 1, *port.shape[1:]) if port.shape else ()
    if None not in sizes:
        return tuple(int(s) for s in sizes if s is not None)
    found: tuple[int, ...] = ()
    if path.suffix == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as archive:
            name = port.name if port.name in archive.files else "x"
            found = archive[name].shape if name in archive.files else ()
    if len(found) != len(sizes):
        raise DataError(
            f"the shape of input {port.name!r} isn't known",
            where=str(path),
            why=f"the model leaves it open: {['?' if s is None else s for s in sizes]}",
            hint="give data of the model's rank as an .npz",
        )
    return tuple(int(f if s is None else s) for s, f in zip(sizes, found, strict=True))


def _labels(path: Path) -> Array | None:
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as archive:
        if LABELS not in archive.files:
            return None
        labels: Array = archive[LABELS]
    if not labels.ndim:
        raise DataError("labels need a sample axis", where=str(path), why="y is a scalar")
    return labels
