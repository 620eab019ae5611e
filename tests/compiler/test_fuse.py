"""Which nodes share a kernel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeq.compiler.lower.fuse import group_nodes

INT8, INT32 = ir.DataType.INT8, ir.DataType.INT32
SHAPE = ir.Shape([1, 4, 6, 6])


def value(name: str, dtype: ir.DataType = INT8) -> ir.Value:
    return ir.Value(name=name, shape=SHAPE, type=ir.TensorType(dtype))


def constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)


def node(op: str, inputs: list[ir.Value], name: str, dtype: ir.DataType = INT8) -> ir.Node:
    return ir.Node("edgeq", op, inputs, outputs=[value(name, dtype)], name=name)


def convolution(x: ir.Value, name: str) -> list[ir.Node]:
    acc = node("Conv", [x], f"{name}_acc", INT32)
    return [acc, node("RequantizeNarrow", [acc.outputs[0]], name)]


def graph_of(nodes: list[ir.Node], inputs: list[ir.Value], outputs: list[ir.Value]) -> ir.Graph:
    return ir.Graph(inputs, outputs, nodes=nodes)


def ops(graph: ir.Graph) -> list[tuple[str, ...]]:
    return [g.ops for g in group_nodes(graph)]


def test_a_convolution_takes_requantize_table_and_residual():
    x = value("x")
    first, second = convolution(x, "c1"), convolution(x, "c2")
    lut = node("Lut", [second[1].outputs[0], constant("t", np.zeros(256, np.int8))], "lut")
    add = node("Add", [first[1].outputs[0], lut.outputs[0]], "add")
    graph = graph_of([*first, *second, lut, add], [x], [add.outputs[0]])
    assert ops(graph) == [("Conv", "RequantizeNarrow"), ("Conv", "RequantizeNarrow", "Lut", "Add")]
    assert group_nodes(graph)[1].residual is first[1].outputs[0]


def test_a_value_with_two_readers_keeps_its_own_kernel():
    x = value("x")
    conv = convolution(x, "c")
    lut = node("Lut", [conv[1].outputs[0], constant("t", np.zeros(256, np.int8))], "lut")
    add = node("Add", [conv[1].outputs[0], lut.outputs[0]], "add")
    graph = graph_of([*conv, lut, add], [x], [add.outputs[0]])
    assert ops(graph) == [("Conv", "RequantizeNarrow"), ("Lut",), ("Add",)]


def test_a_graph_output_is_not_swallowed():
    x = value("x")
    conv = convolution(x, "c")
    lut = node("Lut", [conv[1].outputs[0], constant("t", np.zeros(256, np.int8))], "lut")
    graph = graph_of([*conv, lut], [x], [conv[1].outputs[0], lut.outputs[0]])
    assert ops(graph) == [("Conv", "RequantizeNarrow"), ("Lut",)]


def test_per_channel_tables_and_sums_with_themselves_stay_apart():
    x = value("x")
    conv = convolution(x, "c")
    lut = node("Lut", [conv[1].outputs[0], constant("t", np.zeros((4, 256), np.int8))], "lut")
    add = node("Add", [lut.outputs[0], lut.outputs[0]], "add")
    graph = graph_of([*conv, lut, add], [x], [add.outputs[0]])
    assert ops(graph) == [("Conv", "RequantizeNarrow"), ("Lut",), ("Add",)]


@pytest.mark.parametrize(
    ("op", "scales", "together"),
    [
        ("Conv", (1, 4, 1, 1), True),
        ("Conv", (1,), True),
        ("Conv", (6,), False),
        ("Conv", (4, 1, 6), False),
        ("Gemm", (6,), True),
        ("Gemm", (1, 4, 1, 1), False),
        ("SumPool", (6, 6), True),
        ("SumPool", (1, 4, 1, 1), True),
        ("SumPool", (4, 6, 6), False),
        ("Mul", (4, 6, 6), True),
    ],
)
def test_multipliers_that_a_kernel_cannot_walk_stay_apart(op: str, scales: tuple[int, ...], together: bool):
    """The shape of multipliers and shifts together decides."""
    x = value("x")
    acc = node(op, [x], "acc", INT32)
    constants = [constant("m", np.ones(scales, np.int32)), constant("s", np.ones(1, np.int32))]
    requantize = node("Requantize", [acc.outputs[0], *constants], "q")
    graph = graph_of([acc, requantize], [x], [requantize.outputs[0]])
    assert ops(graph) == ([(op, "Requantize")] if together else [(op,), ("Requantize",)])
