"""What a device computed: an .npz with arrays by tensor name, integers as the device holds them or floats."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError
from edgeq.evaluate.trace import Value

Array = NDArray[Any]
SUFFIX = ".npz"


def load_dump(path: str | Path) -> dict[str, Array]:
    """The arrays of a dump: each [n, …], n samples along the first axis, the same n everywhere.

    Raises:
        DataError: no .npz, empty, or an array of another number of samples or of no numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError("can't read the dump", where=str(path), why=str(error), hint="give an .npz") from error
    if not arrays:
        raise DataError("the dump is empty", where=str(path), hint="write arrays under the names of tensors")
    count = samples_of(arrays)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not array.ndim or len(array) != count or not count:
            raise DataError(
                "an array of the dump can't be compared",
                where=f"{path}, {name}",
                why=f"it is {array.dtype} {list(array.shape)}",
                hint="numbers [samples, …], as many samples in each array",
            )
    return arrays


def samples_of(arrays: Mapping[str, Array]) -> int:
    """Samples of a dump."""
    first = next(iter(arrays.values()))
    return len(first) if first.ndim else 0


def dumped_values(arrays: Mapping[str, Array], reference: Sequence[Value], where: str) -> dict[str, Value]:
    """The dump's arrays as values, with the scales of the model they are compared with.

    Integers stand for what the model's integers stand for; uint8 for an int8 tensor is value + 128, as
    kernels store it. Rows may be flat.

    Raises:
        DataError: an array has another number of elements than the model's tensor.
    """
    found = {}
    for value in reference:
        array = arrays.get(value.name)
        if array is None:
            continue
        shown = value.real if value.raw is None else value.raw
        if array.size != shown.size:
            raise DataError(
                "a tensor of the dump has another size",
                where=f"{where}, {value.name}",
                why=f"it is {list(array.shape)}, the model's {list(shown.shape)}",
                hint="layouts are the source model's (NCHW)",
            )
        array = array.reshape(shown.shape)
        if array.dtype.kind == "f" or value.raw is None:
            found[value.name] = Value(value.name, value.node, value.op, array.astype(np.float64))
            continue
        raw = array.astype(np.int64)
        if array.dtype == np.uint8 and value.raw.dtype == np.int8:
            raw -= 128
        real = (raw - value.zero_point) * value.scale
        found[value.name] = Value(value.name, value.node, value.op, real, raw, value.scale, value.zero_point)
    return found
