"""Small float models for the quantizer's tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeq.frontend import FloatGraph, load

Array = NDArray[Any]
INT64 = TensorProto.INT64


class ModelMaker:
    """Writes nodes one by one; `graph` loads the result through the front end."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, *shape: int) -> str:
        """A float input."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, array: Array, name: str | None = None) -> str:
        """An initializer."""
        chosen = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), chosen))
        return chosen

    def weights(self, *shape: int) -> str:
        """Normal weights, scaled so that a layer keeps its input's power."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.constant((self.random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any) -> str:
        """A node named after its first output."""
        made = list(outputs or [f"{op.lower()}{len(self.nodes)}"])
        self.nodes.append(helper.make_node(op, list(inputs), made, name=f"node_{made[0]}", **attributes))
        return made[0]

    def graph(self, folder: Path, *outputs: str, opset: int = 18) -> FloatGraph:
        """The model with the given outputs, as a float graph."""
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        proto = helper.make_graph(self.nodes, "test", self.inputs, infos, self.initializers)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        model = onnx.shape_inference.infer_shapes(model)
        path = folder / "model.onnx"
        onnx.save(model, path)
        return load(path)


def samples(graph: FloatGraph, count: int = 16, seed: int = 1) -> dict[str, Array]:
    """Normal data for every input."""
    random = np.random.default_rng(seed)
    shapes = {str(value.name): [int(dim) for dim in value.shape] for value in graph.inputs}
    return {name: random.standard_normal((count, *shape[1:])).astype(np.float32) for name, shape in shapes.items()}


def small_classifier(folder: Path) -> FloatGraph:
    """Conv, Relu, depthwise Conv, Clip, pooling, fully connected, Softmax."""
    m = ModelMaker()
    x = m.input("x", 1, 3, 12, 12)
    y = m.node("Conv", [x, m.weights(8, 3, 3, 3), m.weights(8)], ["stem"], pads=[1, 1, 1, 1])
    y = m.node("Relu", [y], ["stem_relu"])
    y = m.node("Conv", [y, m.weights(8, 1, 3, 3)], ["dw"], group=8, strides=[2, 2], pads=[1, 1, 1, 1])
    y = m.node("Clip", [y, m.constant(np.float32(0)), m.constant(np.float32(2))], ["dw_clip"])
    y = m.node("GlobalAveragePool", [y], ["gap"])
    y = m.node("Flatten", [y], ["flat"])
    y = m.node("Gemm", [y, m.weights(8, 5), m.weights(5)], ["logits"])
    y = m.node("Softmax", [y], ["prob"], axis=-1)
    return m.graph(folder, y)


def deep_network(folder: Path) -> FloatGraph:
    """Eight products, each with a Relu."""
    m = ModelMaker()
    y = m.input("x", 1, 16)
    for index in range(8):
        y = m.node("Relu", [m.node("MatMul", [y, m.weights(16, 16)], [f"l{index}"])], [f"r{index}"])
    return m.graph(folder, y)
