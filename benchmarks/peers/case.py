"""What is run: one network, its data, and what a runtime has to offer. No import but numpy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

sys.path[1:1] = [str(folder) for folder in Path(__file__).resolve().parents[1:3]]  # benchmarks/ and edgeq's

Feeds = dict[str, np.ndarray]


class Unsupported(Exception):
    """A runtime can't take a network; the text is the reason that the table prints."""


@dataclass(frozen=True)
class Case:
    """A network.

    Attributes:
        model: the float ONNX file, batch 1.
        calibration: .npz of samples to calibrate on, one array an input, [n, …].
        trial: .npz of the samples whose outputs are compared, the first of which is timed.
        network: its name in benchmarks/networks.py, where a torch module exists.
        tflite: an int8 file that its authors published.
    """

    name: str
    model: str
    calibration: str
    trial: str
    network: str | None = None
    tflite: str | None = None

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Case:
        """From `save`."""
        return Case(**json.loads(path.read_text(encoding="utf-8")))


def samples(path: str) -> Feeds:
    """All arrays of an .npz."""
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def single(feeds: Feeds, index: int) -> Feeds:
    """One sample with its batch axis."""
    return {name: np.ascontiguousarray(x[index : index + 1]) for name, x in feeds.items()}


class Session(Protocol):
    """A loaded network."""

    def run(self, feeds: Feeds) -> np.ndarray:
        """First output for one sample (batch 1), float32."""

    def repeat(self, feeds: Feeds, count: int) -> None:
        """`count` runs of that sample, data in place, as little Python between them as there can be."""


class Runtime(Protocol):
    """What each file of a runtime defines."""

    FORMS: Sequence[str]

    def prepare(self, form: str, case: Case, folder: Path) -> Path:
        """Quantize or convert; the file to load, all it needs inside `folder`. Raises Unsupported."""

    def load(self, form: str, path: Path, threads: int) -> Session:
        """Ready to run."""

    def versions(self) -> dict[str, str]:
        """Of what was used."""


def by_name(values: Sequence[Any], feeds: Feeds, name_of: Any) -> list[np.ndarray]:
    """The feeds in the order of a runtime's inputs: by name, else by position."""
    if all(name_of(value) in feeds for value in values):
        return [feeds[name_of(value)] for value in values]
    return list(feeds.values())
