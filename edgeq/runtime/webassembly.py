"""WebAssembly modules behind the runtime's Python face: they run under Node.js."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.artifact.format import ModelImage, TensorInfo
from edgeq.artifact.wasm import read_manifest
from edgeq.errors import ArtifactError, RunError
from edgeq.integer.arithmetic import dequantize, quantize
from edgeq.runtime import node
from edgeq.runtime.arrays import Array, Inputs
from edgeq.runtime.model import Model, Profile


class WasmModel(Model):
    """A module of one program and one thread. Times are those of this machine's Node.js."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = read_manifest(path)
        try:
            inputs, outputs = ([_tensor(entry) for entry in manifest[key]] for key in ("inputs", "outputs"))
            self._image = ModelImage([], inputs, outputs, int(manifest["arena_bytes"]), manifest=manifest)
            self._golden = int(manifest["golden"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError("the module's manifest is damaged", where=str(path), why=repr(error)) from error

    @property
    def image(self) -> ModelImage:
        return self._image

    @property
    def _images(self) -> Sequence[ModelImage]:
        return [self._image]

    def select(self, *, variant: int | None = None, program: int | None = None) -> Model:
        if (variant or 0, program or 0) != (0, 0):
            raise RunError("a WebAssembly module has one variant and one program", where=str(self.path))
        return self

    def _execute(self, arrays: Sequence[Array], runs: int, as_float: bool, threads: int, workers: int) -> list[Array]:
        self._one_thread(threads)
        given = {tensor.name: _integers(array, tensor) for array, tensor in zip(arrays, self.inputs, strict=True)}
        found = node.run_module(self.path, given)
        outputs = []
        for tensor in self.outputs:
            values = found[tensor.name].reshape(runs, *tensor.shape)
            real = dequantize(values, tensor.scale, tensor.zero_point) if as_float else values
            outputs.append(np.ascontiguousarray(real))
        return outputs

    def verify(self, *, threads: int = 1) -> int:
        self._one_thread(threads)
        different = node.differing_bytes(self.path)
        if different is None:
            raise node.unsupported(self.path)
        if different:
            raise RunError(
                "golden vectors come out with other bits",
                where=str(self.path),
                why=f"{different} bytes of outputs differ under Node.js",
            )
        return self._golden

    def profile(self, inputs: Inputs | None = None, *, repeats: int = 20, threads: int = 1) -> Profile:
        raise RunError(
            "steps of a WebAssembly module can't be timed",
            where=str(self.path),
            why="it has one function with all kernels in it",
            hint="`edgeq bench` times whole runs under Node.js",
        )

    def measure(self, inputs: Inputs | None = None, *, repeats: int = 50, threads: int = 1) -> Array:
        self._one_thread(threads)
        _, arrays = self._one(inputs)
        record = b"".join(_integers(a, t).tobytes() for a, t in zip(arrays, self.inputs, strict=True))
        return np.asarray(node.measure(self.path, record, repeats), np.float64)

    def _one_thread(self, threads: int) -> None:
        if threads != 1:
            raise RunError(f"{threads} threads", where=str(self.path), why="a WebAssembly module runs in one")


def _tensor(entry: dict[str, object]) -> TensorInfo:
    kept = {key: entry[key] for key in ("name", "dtype", "offset", "scale", "zero_point")}
    shape = entry["shape"]
    if not isinstance(shape, list):
        raise TypeError(f"shape {shape!r}")
    return TensorInfo(shape=tuple(int(size) for size in shape), **kept)  # type: ignore[arg-type]


def _integers(array: Array, tensor: TensorInfo) -> Array:
    """Real values quantized, integers as they are. What is no number becomes the lowest value, as in the C runtime."""
    if array.dtype.kind != "f":
        return array
    real = np.where(np.isnan(array), -np.inf, array)
    return np.asarray(quantize(real, tensor.scale, tensor.zero_point, tensor.numpy_dtype))
