"""Single layers at 8 bits until the error is within a budget; ranges chosen tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeq.quantize import LayerPolicy, Policy, QuantizeOptions, prepare, quantize
from edgeq.quantize.error.judge import split
from edgeq.quantize.error.keep import keep_within
from edgeq.quantize.integerize.weights import QuantizedWeights
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import plain_weights, products
from edgeq.quantize.ranges import choose_observers
from tests.quantize.models import ModelMaker, deep_network, samples

NARROW = Policy(defaults=LayerPolicy(weight_bits=3))


def bits(budget: float | None, folder: Path) -> list[int | None]:
    graph = deep_network(folder)
    options = QuantizeOptions(policy=NARROW, weight_budget=budget, promote=False)
    return [layer.weight_bits for layer in quantize(graph, samples(graph, 64), options).report.layers if layer.weights]


def test_a_budget_decides_how_many_layers_are_kept(tmp_path: Path) -> None:
    none, generous, tight, nothing = (bits(budget, tmp_path) for budget in (None, 100.0, 0.05, 0.0))
    assert none == generous == [3] * 8
    assert 0 < tight.count(8) < 8
    assert nothing.count(8) >= tight.count(8)


class Additive:
    """A judge for which every layer that isn't wide costs a known error."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs = costs

    def trial(self, _: Plan) -> Callable[[Mapping[str, QuantizedWeights]], float]:
        return lambda wide: sum(cost for name, cost in self.costs.items() if name not in wide)


def kept_layers(folder: Path, costs: list[float], budget: float) -> list[int]:
    graph = deep_network(folder)
    plan = prepare(graph, samples(graph, 16), QuantizeOptions(policy=NARROW, promote=False)).plan
    layers = products(plan.topology)
    wide = {layer.layer.name: plain_weights(plan, layer, 8) for layer in layers}
    judge = Additive(dict(zip(wide, costs, strict=True)))
    found = keep_within(plan, judge, wide, budget)  # type: ignore[arg-type]
    return [index for index, layer in enumerate(layers) if found.policy.layer(layer.layer.name).weight_bits == 8]


def test_the_dearest_layers_are_kept_and_no_more(tmp_path: Path) -> None:
    assert kept_layers(tmp_path, [1, 2, 30, 4, 5, 60, 7, 8], 27) == [2, 5]
    assert kept_layers(tmp_path, [1, 2, 30, 4, 5, 60, 7, 8], 26.5) == [2, 5, 7]
    assert kept_layers(tmp_path, [1] * 8, 100) == []
    assert len(kept_layers(tmp_path, [1] * 8, 0)) == 8


def test_the_report_says_what_it_cost(tmp_path: Path) -> None:
    graph = deep_network(tmp_path)
    options = QuantizeOptions(policy=NARROW, weight_budget=0.02, promote=False)
    report = quantize(graph, samples(graph, 64), options).report
    step = report.steps[-1]
    assert step.name == "keep"
    assert step.kept
    assert step.after < step.before


def test_a_tensor_with_idle_outliers_gets_another_observer(tmp_path: Path) -> None:
    """Under min-max one value in 460,000 sets the range of the input, and nothing depends on it."""
    m = ModelMaker()
    y = m.node("MatMul", [m.input("x", 1, 512), m.weights(512, 8)], ["y"])
    graph = m.graph(tmp_path, m.node("Relu", [y]))
    data = samples(graph, 900)
    data["x"][0, 0] = 3000.0
    start = prepare(graph, data, QuantizeOptions(observer="minmax", promote=False))
    fit, _ = split(start.data)
    plan = choose_observers(start.plan, fit[1:])
    assert plan is not None
    assert plan.policy.layer("x").observer == "percentile"
    assert plan.quant("x").scale < start.plan.quant("x").scale / 4
    decided = Policy(layers={"x": LayerPolicy(observer="minmax")})
    kept = prepare(graph, data, QuantizeOptions(observer="minmax", policy=decided, promote=False))
    again = choose_observers(kept.plan, fit[1:])
    assert again is None or np.isclose(again.quant("x").scale, kept.plan.quant("x").scale)
