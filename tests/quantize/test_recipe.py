"""Recipes: what is tried, what is kept, what the policy takes out of their hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import PolicyError, UsageError
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize import LayerPolicy, Policy, QuantizeOptions, prepare, quantize
from edgeq.quantize import recipe as recipes
from edgeq.quantize.error.judge import Judge, split
from edgeq.quantize.kinds import kinds, resolve, with_weight_bits
from edgeq.quantize.pipeline import Prepared
from edgeq.quantize.plan import Plan
from edgeq.quantize.products import plain_weights, products
from edgeq.quantize.topology import Topology
from tests.quantize.models import ModelMaker, deep_network, samples, small_classifier


def test_narrow_weights_err_less_with_every_better_recipe(tmp_path: Path) -> None:
    graph = deep_network(tmp_path)
    data, policy = samples(graph, 64), Policy(defaults=LayerPolicy(weight_bits=4))
    results = {r: quantize(graph, data, QuantizeOptions(policy=policy, recipe=r)) for r in recipes.RECIPES}
    fast, default, best = (results[r].report for r in ("fast", "default", "best"))
    assert fast.steps == []
    assert [step.name for step in default.steps][:1] == ["gptq"]
    assert default.outputs[0].sqnr_db > fast.outputs[0].sqnr_db + 1
    assert best.outputs[0].sqnr_db > fast.outputs[0].sqnr_db + 1
    assert best.recipe == "best"
    for report in (default, best):
        kept = [step for step in report.steps if step.kept]
        assert all(step.after < (1 - recipes.MARGIN) * step.before for step in kept)
        assert [later.before for later in kept[1:]] == [earlier.after for earlier in kept[:-1]]


def test_a_step_that_does_harm_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(current: Prepared, _context: recipes.Context) -> Prepared:
        coarse = {p.layer.name: plain_weights(current.plan, p, 2) for p in products(current.plan.topology)}
        return Prepared(current.plan.with_weights(coarse), current.data, current.promotion, current.seconds)

    monkeypatch.setitem(recipes.STEPS, "gptq", harm)
    graph = small_classifier(tmp_path)
    found = quantize(graph, samples(graph), QuantizeOptions(steps=("gptq",)))
    (step,) = found.report.steps
    assert not step.kept
    assert step.after > step.before
    fast = quantize(graph, samples(graph), QuantizeOptions(recipe="fast"))
    assert found.graph.to_bytes() == fast.graph.to_bytes()


def test_what_changes_the_scales_rounds_as_the_weights_were(tmp_path: Path) -> None:
    graph = deep_network(tmp_path)
    policy = Policy(defaults=LayerPolicy(weight_bits=4))
    start = prepare(graph, samples(graph, 64), QuantizeOptions(policy=policy))
    context = recipes.Context(split(start.data)[0], 2)
    by_columns = recipes.STEPS["gptq"](start, context)
    assert by_columns is not None
    plain, again = (recipes.STEPS["observer"](found, context) for found in (start, by_columns))
    assert plain is not None
    assert again is not None
    assert not plain.plan.weights
    assert set(again.plan.weights) == {product.layer.name for product in products(start.plan.topology)}
    assert again.plan.ranges.observer == "percentile"


def test_another_observer_is_tried_where_the_user_named_none(tmp_path: Path) -> None:
    graph = deep_network(tmp_path)
    data, steps = samples(graph, 64), ("observer",)
    # Large values that are rare and matter: percentiles cover them.
    data["x"][::7, ..., 0] *= 30
    start = prepare(graph, data)
    tried = recipes.STEPS["observer"](start, recipes.Context(split(start.data)[0], 2))
    assert tried is not None
    assert tried.plan.ranges.observer == "percentile"
    assert start.plan.ranges.observer == "l2.4"
    (step,) = quantize(graph, data, QuantizeOptions(steps=steps)).report.steps[:1]
    assert step.after != step.before
    (named,) = quantize(graph, data, QuantizeOptions(steps=steps, observer="minmax")).report.steps
    assert (named.kept, named.after) == (False, named.before)


def test_the_integer_graph_is_judged_in_front_of_a_softmax(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    start = prepare(graph, samples(graph, 32))
    judge = Judge(start.plan.topology, split(start.data)[1])
    assert judge.exact_error(recipes._build(start.plan)) == pytest.approx(judge.error(start.plan), rel=0.3)


def test_the_integer_graph_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "error", lambda _self, plan: 1.0 if not plan.weights else 0.5)
    errors = iter([0.1, 0.2])
    monkeypatch.setattr(Judge, "exact_error", lambda _self, _graph: next(errors))
    graph = small_classifier(tmp_path)
    found = quantize(graph, samples(graph), QuantizeOptions(steps=("gptq",)))
    assert [(step.name, step.kept) for step in found.report.steps] == [("gptq", True), ("integer graph", False)]
    fast = quantize(graph, samples(graph), QuantizeOptions(recipe="fast"))
    assert found.graph.to_bytes() == fast.graph.to_bytes()


def test_steps_by_name_and_in_their_own_order() -> None:
    assert recipes.steps_of("fast", ("adaround", "gptq")) == ("gptq", "adaround")
    assert recipes.steps_of("default", None) == ("gptq",)
    assert recipes.steps_of("best", ()) == ()
    with pytest.raises(UsageError, match=r"unknown recipe 'bset'.*\n(.*\n)*.*did you mean 'best'"):
        recipes.steps_of("bset", None)
    with pytest.raises(UsageError, match="unknown step 'gtpq'"):
        QuantizeOptions.make(steps="adaround,gtpq")
    assert QuantizeOptions.make(steps="adaround,gptq").steps == ("adaround", "gptq")


def test_random_data_is_fitted_to_nothing(tmp_path: Path) -> None:
    assert quantize(small_classifier(tmp_path)).report.steps == []


def test_what_the_policy_decides_is_done_unasked(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    data = samples(graph, 32)
    decided = Policy(defaults=LayerPolicy(weight_bits=4), layers={"node_stem": LayerPolicy(rounding="gptq")})
    policies = decided, Policy(defaults=LayerPolicy(weight_bits=4))
    found, plain = (quantize(graph, data, QuantizeOptions(policy=p, recipe="fast")).graph for p in policies)
    assert not np.array_equal(weights(found, "node_stem"), weights(plain, "node_stem"))
    assert np.array_equal(weights(found, "node_logits"), weights(plain, "node_logits"))


def weights(graph: IntegerGraph, layer: str) -> np.ndarray:
    """Integer weights of a layer."""
    tensor = graph.model.graph.initializers[f"{layer}.weight"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_samples_to_judge_by_are_held_out(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    fit, held = split(prepare(graph, samples(graph, 20)).data)
    assert (len(fit), len(held)) == (15, 5)
    assert not any(a is b for a in fit for b in held)
    fit, held = split(prepare(graph, samples(graph, 9)).data)
    assert len(fit) == len(held) == 9


# Kinds of layers -----------------------------------------------------------------------------------------------------


def forked(folder: Path) -> Topology:
    """Two inputs, a depthwise layer in the middle, two heads."""
    m = ModelMaker()
    a, b = m.input("a", 1, 4, 6, 6), m.input("b", 1, 4, 6, 6)
    y = m.node("Add", [m.node("Conv", [x, m.weights(4, 4, 1, 1)], [f"c{x}"]) for x in (a, b)])
    y = m.node("Conv", [m.node("Relu", [y]), m.weights(4, 1, 3, 3)], ["dw"], group=4)
    y = m.node("Conv", [y, m.weights(8, 4, 1, 1)], ["pw"])
    heads = [m.node("Conv", [y, m.weights(2, 8, 1, 1)], [name]) for name in ("box", "score")]
    return Topology(m.graph(folder, *heads))


def test_kinds_of_layers(tmp_path: Path) -> None:
    assert kinds(forked(tmp_path)) == {
        "first": ["node_ca", "node_cb"],
        "last": ["node_box", "node_score"],
        "depthwise": ["node_dw"],
    }


def test_sections_come_between_defaults_and_layers(tmp_path: Path) -> None:
    policy = Policy.parse(
        "{defaults: {weight_bits: 4, scale: pow2}, first: {weight_bits: 8}, depthwise: {weight_bits: 6}, "
        "layers: {'node_c*': {requantize: single}, node_ca: {weight_bits: 5}, 'node_p*': {weight_bits: 3}}}"
    )
    found = resolve(policy, forked(tmp_path))
    bits = {name: found.layer(f"node_{name}").weight_bits for name in ("ca", "cb", "dw", "pw", "box")}
    assert bits == {"ca": 5, "cb": 8, "dw": 6, "pw": 3, "box": 4}
    assert found.layer("node_cb").requantize == "single"
    assert found.layer("node_dw").scale == "pow2"


def test_one_number_for_all_weights(tmp_path: Path) -> None:
    topology = forked(tmp_path)

    def bits(*given: int | None, policy: Policy | None = None) -> list[int | None]:
        found = resolve(with_weight_bits(policy or Policy(), *given), topology)  # type: ignore[arg-type]
        return [found.layer(f"node_{name}").weight_bits for name in ("ca", "dw", "pw", "score")]

    assert bits(4) == [8, 8, 4, 8]
    assert bits(7) == [7, 7, 7, 7]
    assert bits(4, 6) == [6, 6, 4, 6]
    own = Policy(layers={"node_pw": LayerPolicy(weight_bits=5)}, depthwise=LayerPolicy(weight_bits=7))
    assert bits(4, policy=own) == [8, 7, 5, 8]


def test_widths_reach_the_graph_and_are_checked(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    report = quantize(graph, samples(graph), QuantizeOptions(weight_bits=4)).report
    assert {layer.name: layer.weight_bits for layer in report.layers if layer.weights} == {
        "node_stem": 8,
        "node_dw": 8,
        "node_logits": 8,
    }
    report = quantize(graph, samples(graph), QuantizeOptions(weight_bits=4, edge_bits=5)).report
    assert {layer.weight_bits for layer in report.layers if layer.weights} == {5}
    for options in (QuantizeOptions(weight_bits=1), QuantizeOptions(edge_bits=9)):
        with pytest.raises(UsageError, match="no such weight width"):
            prepare(graph, samples(graph), options)


def test_faults_in_sections_are_named() -> None:
    with pytest.raises(PolicyError, match="did you mean 'weight_bits'"):
        Policy.parse("first: {weight_bit: 8}")
    with pytest.raises(PolicyError, match="did you mean 'depthwise'"):
        Policy.parse("depth_wise: {weight_bits: 8}")


def test_a_plan_with_other_weights_is_another_plan(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    plan = prepare(graph, samples(graph)).plan
    other = plan.with_weights({"node_stem": plain_weights(plan, products(plan.topology)[0], 2)})
    assert isinstance(other, Plan)
    assert list(other.weights) == ["node_stem"]
    assert plan.weights == {}
