"""The floating-point twin of the integer graph: close to it, and its weights can be exchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.frontend import FloatGraph
from edgeq.integer import oracle
from edgeq.integer.arithmetic import dequantize
from edgeq.quantize import LayerPolicy, Policy, QuantizeOptions, prepare
from edgeq.quantize.error.fakequant import FakeQuantized
from edgeq.quantize.integerize import build
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import plain_weights, products
from edgeq.quantize.report import quantize_inputs, sqnr
from tests.quantize.models import ModelMaker, samples, small_classifier


def attention(folder: Path) -> FloatGraph:
    """A block of attention with a residual sum, normalization, and a product without bias."""
    m = ModelMaker()
    x = m.input("x", 1, 6, 16)
    q, k, v = (m.node("MatMul", [x, m.weights(16, 16)], [name]) for name in "qkv")
    k = m.node("Transpose", [k], ["kt"], perm=[0, 2, 1])
    p = m.node("Softmax", [m.node("MatMul", [q, k], ["qk"])], ["p"], axis=-1)
    y = m.node("Add", [x, m.node("MatMul", [p, v], ["pv"])], ["sum"])
    y = m.node("LayerNormalization", [y, m.weights(16), m.weights(16)], ["norm"])
    y = m.node("Add", [m.node("MatMul", [y, m.weights(16, 8)], ["last"]), m.weights(8)], ["y"])
    return m.graph(folder, y)


def both(plan: Plan, data: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs of the twin and of the integer graph, real units."""
    name = str(plan.topology.graph.outputs[0].name)
    graph = build(plan).graph
    session, quant = oracle.Session(graph, threads=1), graph.quant(name)
    feeds = [{key: value[i : i + 1] for key, value in data.items()} for i in range(8)]
    integer = [session.run(quantize_inputs(graph, feed))[name] for feed in feeds]
    return (
        [outputs[0] for outputs in FakeQuantized(plan, [name]).run(feeds)],
        [dequantize(array, quant.scale, quant.zero_point) for array in integer],
    )


@pytest.mark.parametrize("make", [small_classifier, attention])
@pytest.mark.parametrize("wide", [False, True])
def test_it_computes_what_the_integer_graph_computes(make, wide: bool, tmp_path: Path) -> None:
    graph = make(tmp_path)
    policy = Policy(defaults=LayerPolicy(activation="s16")) if wide else Policy()
    plan = prepare(graph, samples(graph), QuantizeOptions(policy=policy, promote=False)).plan
    twin, integer = both(plan, samples(graph))
    assert sqnr(integer, twin) > 30


def test_chosen_weights_reach_twin_and_integer_graph(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    plan = prepare(graph, samples(graph)).plan
    chosen = {p.layer.name: plain_weights(plan, p, 3) for p in products(plan.topology)}
    coarse = Plan(plan.topology, plan.ranges, plan.policy, weights=chosen)
    plain, rough = both(plan, samples(graph)), both(coarse, samples(graph))
    assert sqnr(rough[1], rough[0]) > 30
    assert sqnr(plain[1], rough[1]) < 25
    feeds = [{key: value[i : i + 1] for key, value in samples(graph).items()} for i in range(8)]
    name = str(graph.model.graph.outputs[0].name)
    changed = FakeQuantized(plan, [name]).run(feeds, chosen)
    np.testing.assert_array_equal([c[0] for c in changed], rough[0])


def test_rows_of_every_kind_of_product_come_back(tmp_path: Path) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 4, 5, 5)
    y = m.node("Conv", [x, m.weights(6, 2, 3, 3)], ["conv"], group=2)
    y = m.node("ConvTranspose", [y, m.weights(6, 5, 2, 2)], ["up"], group=2)
    y = m.node("Gemm", [m.node("Flatten", [y]), m.weights(160, 7), m.weights(7)], ["y"])
    graph = m.graph(tmp_path, y)
    found = products(prepare(graph, samples(graph)).plan.topology)
    assert [p.layer.op for p in found] == ["Conv", "ConvTranspose", "MatMul"]
    assert [p.rows.shape for p in found] == [(6, 18), (10, 12), (7, 160)]
    for product in found:
        np.testing.assert_array_equal(product.arrange(product.rows), product.weights)
