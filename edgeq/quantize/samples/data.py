"""Calibration data: checked samples in the form the float graph takes them.

`CalibrationData` is what calibration works on; `load` reads it from .npz, .npy, a folder of .npy or a folder of
images, `from_arrays` checks arrays already in memory, `random_data` makes a stand-in. Every fault is a DataError that
says which input or file, what is wrong and what is expected.
"""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError
from edgeq.quantize.samples.preprocess import IMAGE_SUFFIXES, Preprocess, load_image

Array = NDArray[Any]

#: Fewer samples than this are accepted with a warning.
FEW_SAMPLES = 8

#: Names a single input may go by in an .npz instead of its own.
_ALIASES = ("x", "input", "inputs", "data")
#: Arrays an .npz may carry besides the inputs.
_LABELS = ("y", "label", "labels", "target", "targets")


@dataclass(frozen=True)
class InputSpec:
    """One input of the float graph: static shape (leading axis = batch) and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class CalibrationData:
    """Samples for calibration.

    Attributes:
        specs: the graph's inputs, in order.
        arrays: per input [samples, ...]: the input's shape without its batch axis behind the sample axis.
        source: where they came from, for people.
        calibrated: False for random data.
        warnings: what the user should know.
    """

    specs: tuple[InputSpec, ...]
    arrays: Mapping[str, Array]
    source: str
    calibrated: bool = True
    warnings: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def feed(self, index: int) -> dict[str, Array]:
        """Inputs of one run. A batch above 1 is filled with the samples that follow, wrapping around."""
        feeds = {}
        for spec in self.specs:
            batch = spec.shape[0] if spec.shape else 1
            rows = [(index * batch + k) % len(self) for k in range(batch)]
            feeds[spec.name] = np.ascontiguousarray(self.arrays[spec.name][rows]).reshape(spec.shape)
        return feeds

    @property
    def runs(self) -> int:
        """Number of runs that show every sample at least once."""
        batch = max((spec.shape[0] if spec.shape else 1) for spec in self.specs)
        return -(-len(self) // max(batch, 1))

    def feeds(self, limit: int | None = None) -> Iterator[dict[str, Array]]:
        """Inputs run by run, at most `limit` runs spread evenly over the samples."""
        runs = self.runs
        chosen = range(runs) if limit is None or limit >= runs else [i * runs // limit for i in range(limit)]
        for index in chosen:
            yield self.feed(index)


def from_arrays(
    specs: tuple[InputSpec, ...], arrays: Mapping[str, Array], source: str = "arrays", limit: int | None = None
) -> CalibrationData:
    """Check arrays against the inputs of the graph.

    Args:
        specs: the graph's inputs.
        arrays: {input name: [samples, *shape without batch]} (or the full shape behind the sample axis). Floats of any
            width and integers are taken for float inputs, integers for integer inputs.
        source: shown in messages.
        limit: use the first `limit` samples only.

    Raises:
        DataError: a name, shape or dtype that doesn't fit, NaN or infinity, no samples, unequal numbers of them.
    """
    _check_names(specs, arrays, source)
    checked = {spec.name: _check_array(spec, np.asarray(arrays[spec.name]), source)[:limit] for spec in specs}
    counts = {name: len(array) for name, array in checked.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            "the inputs have different numbers of samples",
            where=source,
            why=", ".join(f"{name}: {count}" for name, count in counts.items()),
            hint="the first axis of every array counts the samples",
        )
    count = next(iter(counts.values()))
    if count < 1:
        raise DataError(
            "there are no calibration samples",
            where=source,
            why="the sample axis has length 0",
            hint=f"give at least {FEW_SAMPLES}, 32 to 128 are usual",
        )
    warnings: tuple[str, ...] = ()
    if count < FEW_SAMPLES:
        warnings = (f"only {count} calibration sample{'s' * (count > 1)}: ranges will be unsure, 32 to 128 are usual",)
    return CalibrationData(specs, checked, source, True, warnings)


def _check_names(specs: tuple[InputSpec, ...], arrays: Mapping[str, Array], source: str) -> None:
    names = [spec.name for spec in specs]
    for given in arrays:
        if given not in names:
            near = difflib.get_close_matches(given, names, 1)
            raise DataError(
                f"the model has no input {given!r}",
                where=source,
                why=f"its inputs are: {', '.join(names)}",
                hint=f"did you mean {near[0]!r}?" if near else "rename the array after the input",
            )
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(
            f"calibration data for input {missing[0]!r} is missing",
            where=source,
            why=f"there is data for: {', '.join(arrays) or 'nothing'}",
            hint="give one array per input, named after it",
        )


def _check_array(spec: InputSpec, array: Array, source: str) -> Array:
    where = f"{source}, input {spec.name!r}"
    if array.dtype.kind not in "fiub":
        raise DataError("calibration data is not numeric", where=where, why=f"its dtype is {array.dtype}")
    if spec.dtype.kind in "iu" and array.dtype.kind == "f":
        raise DataError(
            "calibration data has the wrong dtype",
            where=where,
            why=f"the input takes {spec.dtype}, the data is {array.dtype}",
            hint=f"convert it with .astype('{spec.dtype}')",
        )
    tail = spec.shape[1:]
    if array.ndim == len(spec.shape) + 1 and array.shape[1:] == spec.shape:
        array = array.reshape(-1, *tail)
    if array.shape[1:] != tail or array.ndim == 0:
        raise DataError(
            "calibration data has the wrong shape",
            where=where,
            why=f"expected [samples{''.join(f', {n}' for n in tail)}], got {list(array.shape)}",
            hint=_shape_hint(tail, array.shape),
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(
            "calibration data contains NaN or infinity",
            where=where,
            why=f"the value at {list(bad)} is {array[bad]}",
            hint="remove or mend the sample",
        )
    return array.astype(spec.dtype)


def _shape_hint(tail: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if shape == tail:
        return "a sample axis in front is missing: use array[None]"
    if len(shape) == 4 and len(tail) == 3 and (shape[3], shape[1], shape[2]) == tail:
        return "the data is channels-last: use array.transpose(0, 3, 1, 2)"
    return "the first axis counts the samples, the rest is the input's shape without its batch axis"


def random_data(specs: tuple[InputSpec, ...], count: int = 8, seed: int = 0) -> CalibrationData:
    """Standard normal floats, ones for integer inputs: for a first look at speed and size, never for accuracy.

    One is a token that every vocabulary has, and in a mask it takes nothing out.

    The result is marked as not calibrated, and the integer graph made from it says so.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in specs:
        shape = (count, *spec.shape[1:])
        if spec.dtype.kind == "f":
            arrays[spec.name] = generator.standard_normal(shape, dtype=np.float32).astype(spec.dtype)
        else:
            arrays[spec.name] = np.ones(shape, spec.dtype)
    warning = "calibrated on random data: good for speed and size, the outputs mean nothing"
    return CalibrationData(specs, arrays, f"random (seed {seed})", False, (warning,))


def load(
    path: str | Path,
    specs: tuple[InputSpec, ...],
    *,
    preprocess: Preprocess | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> CalibrationData:
    """Calibration data from a file or folder; the word `random` gives random data.

    Args:
        path: .npz with one array per input (a single input may be called x; labels such as y are ignored), .npy or a
            folder of .npy (one sample each) for models with one input, or a folder of images.
        specs: the graph's inputs.
        preprocess: for images: how a picture becomes an input.
        limit: read at most this many samples.
        seed: for `random`.

    Raises:
        DataError: nothing there, unreadable, empty, or not what the model takes.
    """
    if str(path) == "random":
        return random_data(specs, seed=seed)
    place = Path(path)
    if not place.exists():
        raise DataError(
            "there is no calibration data",
            where=str(place),
            why="the path does not exist",
            hint="give an .npz or .npy file, a folder of .npy or images, or the word random",
        )
    if place.is_dir():
        return from_arrays(specs, _from_folder(place, specs, preprocess, limit), str(place), limit)
    if place.suffix == ".npz":
        return from_arrays(specs, _from_npz(place, specs, limit), str(place), limit)
    if place.suffix == ".npy":
        return from_arrays(specs, {_only(specs, place).name: _read_npy(place)}, str(place), limit)
    raise DataError(
        "calibration data of this kind can't be read",
        where=str(place),
        why=f"the suffix is {place.suffix or 'missing'}",
        hint="give an .npz or .npy file, or a folder of .npy files or images",
    )


def _only(specs: tuple[InputSpec, ...], place: Path) -> InputSpec:
    if len(specs) == 1:
        return specs[0]
    raise DataError(
        "the model has several inputs",
        where=str(place),
        why=f"they are: {', '.join(spec.name for spec in specs)}",
        hint="give an .npz with one array per input",
    )


def _read_npy(place: Path) -> Array:
    try:
        array: Array = np.load(place, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError("a .npy file can't be read", where=str(place), why=str(error)) from error
    return array


def _from_npz(place: Path, specs: tuple[InputSpec, ...], limit: int | None) -> dict[str, Array]:
    try:
        with np.load(place, allow_pickle=False) as archive:
            names = set(archive.files)
            wanted = {spec.name for spec in specs}
            if len(specs) == 1 and not names & wanted:
                alias = next((name for name in _ALIASES if name in names), None)
                if alias:
                    return {specs[0].name: archive[alias][:limit]}
            return {name: archive[name][:limit] for name in sorted(names) if name in wanted or name not in _LABELS}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError("an .npz file can't be read", where=str(place), why=str(error)) from error


def _from_folder(
    place: Path, specs: tuple[InputSpec, ...], preprocess: Preprocess | None, limit: int | None
) -> dict[str, Array]:
    files = sorted(file for file in place.iterdir() if file.is_file())
    arrays = [file for file in files if file.suffix == ".npy"][:limit]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES][:limit]
    spec = _only(specs, place) if arrays or images else None
    if arrays and spec:
        return {spec.name: _stack({file: _one_sample(_read_npy(file), spec) for file in arrays})}
    if images and spec:
        if preprocess is None:
            raise DataError(
                "images need a preprocessing specification",
                where=str(place),
                why="how a picture becomes the model's input is not known",
                hint='for instance --preprocess "{size: 256, crop: 224, mean: [0.485, 0.456, 0.406], '
                'std: [0.229, 0.224, 0.225]}"',
            )
        return {spec.name: _stack({file: load_image(file, preprocess) for file in images})}
    raise DataError(
        "the folder holds no calibration data",
        where=str(place),
        why="there is neither a .npy file nor an image in it (subfolders are not searched)",
        hint=f"images may be {', '.join(sorted(IMAGE_SUFFIXES))}",
    )


def _one_sample(array: Array, spec: InputSpec) -> Array:
    """A file holds one sample, with or without a leading axis of length 1."""
    if array.shape == (1, *spec.shape[1:]):
        return array.reshape(spec.shape[1:])
    return array


def _stack(samples: dict[Path, Array]) -> Array:
    first_file, first = next(iter(samples.items()))
    for file, sample in samples.items():
        if sample.shape != first.shape:
            raise DataError(
                "the samples have different shapes",
                where=str(file),
                why=f"{list(sample.shape)}, but {first_file.name} has {list(first.shape)}",
                hint="for images set a crop (or a size of two numbers) so that all become equal",
            )
    return np.stack(list(samples.values()))
