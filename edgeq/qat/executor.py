"""Runs an integer graph on a batch in torch: the same bits as the NumPy reference and the artifact, on CPU or CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from edgeq.errors import UnsupportedOpError
from edgeq.integer.graph import IntegerGraph, constant_of
from edgeq.qat.exact_ops import form_of
from edgeq.qat.node import Node, Tensor


def check_forms(graph: IntegerGraph) -> None:
    """See that every op of a graph has a torch form.

    Raises:
        UnsupportedOpError: naming the layer.
    """
    for step in graph.steps():
        if form_of(step.op.domain, step.op.name) is None:
            raise UnsupportedOpError(
                f"{step.op.name} can't be simulated in torch",
                where=f"layer {step.node.name!r}",
                hint="choose another form in the policy (gelu: lut or shiftgelu)",
            )


class Executor:
    """An integer graph of batch 1 as a function of batches.

    Args:
        graph: the integer graph.
        device: where it runs.
    """

    def __init__(self, graph: IntegerGraph, device: torch.device) -> None:
        self._inputs = [str(value.name) for value in graph.inputs]
        self._steps: list[tuple[Any, dict[str, Any]]] = []
        self._constants: dict[str, Tensor] = {}
        arrays: dict[str, Any] = {}
        for name, value in graph.model.graph.initializers.items():
            array = constant_of(value)
            if array is not None and array.dtype.kind in "iu":
                arrays[name] = array
                self._constants[name] = torch.from_numpy(array.astype(np.int64)).to(device)
        for step in graph.steps():
            names = [None if value is None else str(value.name) for value in step.node.inputs]
            facts = {
                "form": form_of(step.op.domain, step.op.name),
                "inputs": names,
                "attrs": step.call.attrs,
                "constants": [
                    None if value is None else arrays.get(str(value.name), constant_of(value))
                    for value in step.node.inputs
                ],
                "outputs": [str(value.name) for value in step.node.outputs],
            }
            self._steps.append((facts["form"], facts))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every value of the graph for a batch.

        Args:
            inputs: integers [samples, *shape with its batch of 1], any integer type.

        Returns:
            by name int64 [samples, *shape with its batch of 1].
        """
        with torch.no_grad():
            tensors = [inputs[name].long() for name in self._inputs]
            found: dict[str, Tensor] = torch.vmap(self._sample)(*tensors)
        return found

    def _sample(self, *inputs: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = dict(zip(self._inputs, inputs, strict=True))
        for form, facts in self._steps:
            operands = [
                None if name is None else values.get(name, self._constants.get(name)) for name in facts["inputs"]
            ]
            made = form(Node(operands, facts["attrs"], facts["constants"], len(facts["outputs"])))
            results = made if isinstance(made, tuple) else (made,)
            values.update(zip(facts["outputs"], results, strict=True))
        return values
