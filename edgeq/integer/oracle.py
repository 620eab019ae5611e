"""Two executors that share no code with the reference, on the saved bytes: ONNX Runtime, ONNX's ReferenceEvaluator.

They know nothing of the `edgeq` domain but the function bodies in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from edgeq.integer.graph import IntegerGraph

Array = np.ndarray[Any, np.dtype[Any]]


class Session:
    """An ONNX Runtime session on an integer graph's bytes; load once, run often.

    Args:
        graph: the graph, or the content of its file.
        threads: of ONNX Runtime; 0 leaves the choice to it. Results don't depend on it.
    """

    def __init__(self, graph: IntegerGraph | bytes, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # Folding and clean-up only: the extended level fuses into kernels with other arithmetic.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        data = graph.to_bytes() if isinstance(graph, IntegerGraph) else graph
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.output_names = [o.name for o in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        return dict(zip(self.output_names, self._session.run(None, dict(inputs)), strict=True))


def run(graph: IntegerGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by ONNX Runtime, on the bytes that `save` would write."""
    return Session(graph).run(inputs)


def run_onnx(graph: IntegerGraph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The graph's outputs by onnx.reference.ReferenceEvaluator (slow; for small graphs)."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(graph.to_bytes())
    evaluator = ReferenceEvaluator(model, new_ops=[_integer_max_pool()])
    results: list[Array] = evaluator.run(None, dict(inputs))
    return {name: np.asarray(r) for name, r in zip(evaluator.output_names, results, strict=True)}


@cache
def _integer_max_pool() -> type[Any]:
    """MaxPool for the ReferenceEvaluator, whose own pads integers with NaN and fails. By the definition."""
    from onnx.reference.op_run import OpRun

    class MaxPool(OpRun):  # type: ignore[misc]  # onnx has no types
        def _run(
            self,
            x: Array,
            kernel_shape: Sequence[int],
            strides: Sequence[int],
            pads: Sequence[int],
            dilations: Sequence[int],
            **_unused: Any,
        ) -> tuple[Array]:
            size = [
                (x.shape[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel_shape[i] - 1) - 1) // strides[i] + 1
                for i in (0, 1)
            ]
            out = np.full((*x.shape[:2], *size), np.iinfo(x.dtype).min, dtype=x.dtype)
            for index in np.ndindex(*size):
                first = [index[i] * strides[i] - pads[i] for i in (0, 1)]
                taps = [[first[i] + k * dilations[i] for k in range(kernel_shape[i])] for i in (0, 1)]
                rows, columns = ([t for t in taps[i] if 0 <= t < x.shape[2 + i]] for i in (0, 1))
                if rows and columns:
                    out[:, :, index[0], index[1]] = x[:, :, rows][..., columns].max(axis=(2, 3))
            return (out,)

    return MaxPool
