"""Float models, integer graphs and artifacts behind one face: real numbers in and out, samples along the first axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    import onnx_ir as ir

Array = NDArray[Any]
ELF_MAGIC = b"\x7fELF"
WASM_MAGIC = b"\0asm"
ARTIFACT_SUFFIX = ".edgeq"
VERSION_KEY = "edgeq.version"


@dataclass(frozen=True)
class Port:
    """A model's input or output.

    Attributes:
        name: as in the model.
        shape: sizes with the batch axis as the model has it; None where a size is dynamic.
        dtype: NumPy name of what the model computes with ("float32", "int8").
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Model(ABC):
    """A model to run on data."""

    kind: str
    path: Path
    inputs: list[Port]
    outputs: list[Port]

    @abstractmethod
    def run(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        """Run samples.

        Args:
            samples: for each input float32 [n, …], n samples in the model's layout without its batch axis.

        Returns:
            for each output float32 [n, …]; integer outputs dequantized.
        """


def kind_of(path: str | Path) -> str:
    """ "artifact", "integer graph" or "float model", judged by the file's content.

    Raises:
        ModelError: it is none of them.
        OSError: it can't be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(4)
    # The name decides as well: a damaged artifact shall be reported as one.
    if start in (ELF_MAGIC, WASM_MAGIC) or Path(path).suffix == ARTIFACT_SUFFIX:
        return "artifact"
    import onnx

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's decoder has its own exception, which moves between releases
        raise ModelError(
            "not a model",
            where=str(path),
            why="it is neither an ONNX file nor an artifact, or it is truncated",
            hint="give an ONNX model, an integer graph of `edgeq quantize`, or an artifact of `edgeq compile`",
        ) from error
    keys = {entry.key for entry in proto.metadata_props}
    return "integer graph" if VERSION_KEY in keys else "float model"


def open_model(path: str | Path, *, threads: int = 1) -> Model:
    """The model in a file, whatever its kind.

    Args:
        path: ONNX model, integer graph, or artifact (a foreign one runs under its emulator).
        threads: of the execution; the results don't depend on it.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError("no such model file", where=str(path), hint="check the path")
    kind = kind_of(file)
    if kind == "artifact":
        return ArtifactModel(file, threads)
    if kind == "integer graph":
        return IntegerModel(file, threads)
    return FloatModel(file, threads)


class FloatModel(Model):
    """An ONNX model as it is, through ONNX Runtime."""

    kind = "float model"

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.path = path
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise ModelError("ONNX Runtime can't run the model", where=str(path), why=first_line(error)) from error
        self.inputs = [_port(i.name, i.shape, i.type) for i in self.session.get_inputs()]
        self.outputs = [_port(o.name, o.shape, o.type) for o in self.session.get_outputs()]

    def run(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        names = [port.name for port in self.outputs]

        def once(batch: dict[str, Array]) -> dict[str, Array]:
            feeds = {p.name: batch[p.name].astype(p.dtype, copy=False) for p in self.inputs}
            try:
                return dict(zip(names, self.session.run(names, feeds), strict=True))
            except Exception as error:  # as above
                raise DataError("the model refused the data", where=str(self.path), why=first_line(error)) from error

        return in_batches(self.inputs, samples, once)


class IntegerModel(Model):
    """A saved integer graph, executed by ONNX Runtime on its function bodies."""

    kind = "integer graph"

    def __init__(self, path: Path, threads: int) -> None:
        from edgeq.integer import IntegerGraph
        from edgeq.integer.oracle import Session

        self.path = path
        self.graph = IntegerGraph.load(path)
        self.session = Session(self.graph, threads)
        self.inputs = [self._port(v) for v in self.graph.inputs]
        self.outputs = [self._port(v) for v in self.graph.outputs]

    @staticmethod
    def _port(value: ir.Value) -> Port:
        from edgeq.integer.graph import tensor_type

        kind = tensor_type(value)
        return Port(str(value.name), tuple(kind.shape), kind.dtype.name)

    def quantized(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        """Real inputs as the integers the graph takes; integers of that dtype as they are."""
        from edgeq.integer.arithmetic import quantize

        feeds = {}
        for value, port in zip(self.graph.inputs, self.inputs, strict=True):
            x = samples[port.name]
            if x.dtype != np.dtype(port.dtype):
                quant = self.graph.quant(value)
                x = quantize(x, quant.scale, quant.zero_point, quant.dtype)
            feeds[port.name] = x
        return feeds

    def run(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        from edgeq.integer.arithmetic import dequantize

        quants = {str(v.name): scale_of(v) for v in self.graph.outputs}

        def once(batch: dict[str, Array]) -> dict[str, Array]:
            found = self.session.run(self.quantized(batch))
            return {name: dequantize(found[name], *scale) for name, scale in quants.items()}

        return in_batches(self.inputs, samples, once)


def scale_of(value: ir.Value) -> tuple[float, int]:
    """Scale and zero point of an integer value; (1, 0) for plain integers such as indices."""
    from edgeq.integer.builder import get_quant

    quant = get_quant(value)
    return (1.0, 0) if quant is None else (quant.scale, quant.zero_point)


class ArtifactModel(Model):
    """A compiled artifact on this machine, or under an emulator."""

    kind = "artifact"

    def __init__(self, path: Path, threads: int) -> None:
        from edgeq import runtime
        from edgeq.runtime.emulate import EmulatedModel
        from edgeq.runtime.webassembly import WasmModel

        self.path = path
        self.threads = threads
        self.model = runtime.load(path)
        names = {EmulatedModel: "artifact, emulated", WasmModel: "artifact, under Node.js"}
        self.kind = names.get(type(self.model), "artifact")
        self.inputs = [Port(t.name, tuple(t.shape), t.dtype) for t in self.model.inputs]
        self.outputs = [Port(t.name, tuple(t.shape), t.dtype) for t in self.model.outputs]

    def run(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        return self._run(samples, dequantize=True)

    def run_raw(self, samples: Mapping[str, Array]) -> dict[str, Array]:
        """The same, outputs as the integers that they are."""
        return self._run(samples, dequantize=False)

    def _run(self, samples: Mapping[str, Array], dequantize: bool) -> dict[str, Array]:
        def once(batch: dict[str, Array]) -> dict[str, Array]:
            # Samples are independent: one a worker is faster than threads that share each run.
            return dict(self.model.run_batch(batch, workers=self.threads, dequantize=dequantize))

        batch = self.inputs[0].shape[0] if self.inputs[0].shape else 1
        return once(dict(samples)) if batch == 1 else in_batches(self.inputs, samples, once)


def in_batches(
    inputs: list[Port], samples: Mapping[str, Array], run: Callable[[dict[str, Array]], dict[str, Array]]
) -> dict[str, Array]:
    """Feed samples in groups of the model's batch size, the last one filled up with its last sample.

    Args:
        inputs: the model's ports; the first axis is the batch.
        samples: [n, …] for each input.
        run: one group to its outputs.
    """
    count = len(next(iter(samples.values())))
    batch = next((p.shape[0] for p in inputs if p.shape and p.shape[0] is not None), None) or min(count, 32)
    parts: dict[str, list[Array]] = {}
    for start in range(0, count, batch):
        group = {name: _filled(x[start : start + batch], batch) for name, x in samples.items()}
        for name, value in run(group).items():
            # An output without a batch axis (a scalar loss, say) stays one value a group.
            whole = value if value.ndim and len(value) == batch else value[None]
            parts.setdefault(name, []).append(whole[: min(batch, count - start)])
    return {name: np.concatenate(values) for name, values in parts.items()}


def _filled(group: Array, batch: int) -> Array:
    missing = batch - len(group)
    return group if missing == 0 else np.concatenate([group, np.repeat(group[-1:], missing, axis=0)])


def _port(name: str, shape: list[Any], kind: str) -> Port:
    names = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    dtype = names.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
    return Port(name, tuple(s if isinstance(s, int) else None for s in shape), dtype)


def _static(shape: Any) -> tuple[int | None, ...]:
    return tuple(s if isinstance(s, int) else None for s in shape)


def first_line(error: Exception) -> str:
    """The first line of an exception's text: libraries put addresses and stack traces behind it."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
