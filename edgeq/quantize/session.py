"""ONNX Runtime sessions over the float graph: extra outputs, several samples at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.quantize.samples.data import InputSpec
from edgeq.quantize.topology import name_of, shape_of

Array = NDArray[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")


def input_specs(graph: ir.Graph) -> tuple[InputSpec, ...]:
    """Name, static shape and dtype of each graph input."""
    return tuple(
        InputSpec(name_of(value), shape_of(value), np.dtype((value.dtype or ir.DataType.FLOAT).numpy()))
        for value in graph.inputs
    )


def default_threads() -> int:
    """Samples run at a time: one per available core, at most eight."""
    return max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def model_with_outputs(model: ir.Model, names: Iterable[str]) -> onnx.ModelProto:
    """The model as a protobuf message that also gives out the named intermediate values."""
    proto: onnx.ModelProto = ir.to_proto(model)
    # Nothing in a float graph needs a newer one, and older runtimes read it.
    proto.ir_version = min(proto.ir_version, 10)
    present = {output.name for output in proto.graph.output}
    known = {info.name: info for info in proto.graph.value_info}
    for name in names:
        if name not in present:
            proto.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
            present.add(name)
    return proto


class Session:
    """A model in ONNX Runtime, one thread per run: samples run side by side instead."""

    def __init__(self, proto: onnx.ModelProto, outputs: Sequence[str]) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Pairs of QuantizeLinear and DequantizeLinear are wanted as they are, not as integer kernels of theirs.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.outputs = list(outputs)
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                "ONNX Runtime can't run the float graph", why=str(error).splitlines()[0], hint="simplify the model"
            ) from error

    def run(self, feeds: dict[str, Array]) -> list[Array]:
        """Outputs for one set of inputs, in the order asked for."""
        result: list[Array] = self._session.run(self.outputs, feeds)
        return result


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """function over items in a thread pool, results in order, only a few results waiting in memory at a time."""
    workers = threads or default_threads()
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Result]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
