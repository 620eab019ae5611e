"""What a compilation returns, and what all functions of this package take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgeq.integer import IntegerGraph
    from edgeq.quantize.pipeline import QuantizeResult


Array = NDArray[Any]


Calibration = str | Path | Mapping[str, Array]


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CompileResult:
    """An artifact and what is known about it.

    Attributes:
        path: the artifact; None if none was asked for.
        target: the target's real name (`host` is resolved).
        report: layers (name, op, bits, weight bytes, multiply-accumulates), sizes in bytes, inputs and outputs.
        quantization: what the quantizer did and measured on the calibration data; None for an integer graph as input.
        seconds: wall time of each stage.
    """

    path: Path
    target: str
    report: dict[str, Any]
    quantization: dict[str, Any] | None
    seconds: dict[str, float]

    @property
    def calibrated(self) -> bool:
        """False if the ranges come from random data: speed and sizes are real then, the outputs are not."""
        return bool(self.report["calibrated"])

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "path": str(self.path),
            "target": self.target,
            **self.report,
            "quantization": self.quantization,
            "seconds": self.seconds,
        }


class Clock:
    """Wall seconds of the stages of one call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def manifest_of(graph: IntegerGraph, model: Any, quantized: QuantizeResult | None) -> dict[str, Any]:
    """What travels with the artifact: nothing that differs between two runs, no path of this machine."""
    manifest: dict[str, Any] = {"calibrated": graph.calibrated}
    if isinstance(model, str | Path):
        manifest["source"] = Path(model).name
    if quantized is not None:
        report = quantized.report.as_dict()
        kept = ("samples", "observer", "recipe", "steps", "outputs", "compared", "promoted", "warnings")
        manifest["quantization"] = {key: report[key] for key in kept}
    return manifest
