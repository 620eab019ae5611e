"""Every layer's own error: against the definition, and on networks with planted faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.diagnose.layers import CAUSES, layer_errors
from edgeq.diagnose.opened import IntegerTwin, OpenedFloat
from edgeq.frontend import FloatGraph
from edgeq.integer import reference
from edgeq.quantize import Policy, prepare
from edgeq.quantize.integerize import build
from edgeq.quantize.products import products
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.session import Session, model_with_outputs
from tests.diagnose.conftest import PLAIN, samples_for


def test_opened_integer_network_on_its_own_values_is_the_network(outliers: FloatGraph) -> None:
    prepared = prepare(outliers, samples_for(outliers), PLAIN)
    built = build(prepared.plan)
    twin = IntegerTwin(built, ["first_relu", "second", "third"])
    inputs = quantize_inputs(built.graph, prepared.data.feed(0))
    whole = twin.run(inputs)
    real = {n: (q.astype(np.float64) - twin.quants[n].zero_point) * twin.quants[n].scale for n, q in whole.items()}
    opened = twin.run_opened(inputs, real)
    kept = reference.run(built.graph, inputs, keep=True)
    for name, integers in whole.items():
        assert np.array_equal(integers, opened[name])
        assert np.array_equal(integers, kept[str(built.operands[name].value.name)])


def test_opened_float_network_reads_what_it_is_given(outliers: FloatGraph) -> None:
    prepared = prepare(outliers, samples_for(outliers), PLAIN)
    opened = OpenedFloat(prepared.plan, products(prepared.plan.topology))
    feeds = prepared.data.feed(0)
    session = Session(model_with_outputs(prepared.plan.topology.model, opened.made), opened.made)
    values = dict(zip(opened.made, session.run(feeds), strict=True))
    same = opened.run(feeds, values, {})
    assert all(np.allclose(same[name], values[name], atol=1e-5) for name in opened.made)
    zeros = {name: np.zeros_like(array) for name, array in values.items()}
    assert not np.any(opened.run(feeds, zeros, {})["third"])


def test_planted_outlier_dead_channel_and_shares(outliers: FloatGraph) -> None:
    prepared = prepare(outliers, samples_for(outliers), PLAIN)
    found = layer_errors(prepared.plan, build(prepared.plan), list(prepared.data.feeds(4)), threads=1)
    by_output = {layer.output: layer for layer in found}
    assert list(by_output) == ["x", "first_relu", "second", "third"]
    second = by_output["second"]
    assert second.dead == 1
    assert second.channels == 8
    # The large channel hides the small ones: the tensor as a whole looks fine, its other channels do not.
    assert second.sqnr > 20
    assert second.worst[0].sqnr < 15
    assert 0 not in [channel.channel for channel in second.worst[:4]]
    for layer in found:
        assert sum(layer.shares.values()) == pytest.approx(1)
        assert set(layer.shares) == set(CAUSES)
        assert layer.clipped == 0
    # The input is rounded to nearest: its error is that of its grid, a twelfth of a squared step.
    x = np.concatenate([feed["x"].ravel() for feed in prepared.data.feeds(4)])
    step = by_output["x"].scale
    assert by_output["x"].sqnr == pytest.approx(10 * np.log10(np.mean(x**2) / (step**2 / 12)), abs=0.7)
    assert by_output["second"].sqnr_accumulated < by_output["second"].sqnr


def test_narrow_weights_are_the_cause_where_they_are(outliers: FloatGraph) -> None:
    policy = Policy.of({"layers": {"node_first": {"weight_bits": 2}}})
    prepared = prepare(outliers, samples_for(outliers), replace(PLAIN, policy=policy))
    found = {e.output: e for e in layer_errors(prepared.plan, build(prepared.plan), list(prepared.data.feeds(3)), 1)}
    assert found["first_relu"].shares["weight"] > 0.95
    assert found["third"].shares["weight"] < 0.5


def test_clipping_is_counted(outliers: FloatGraph) -> None:
    policy = Policy.of({"defaults": {"activation_bits": 3}})
    prepared = prepare(outliers, samples_for(outliers, power=3), replace(PLAIN, observer="mse", policy=policy))
    plan, feeds = prepared.plan, list(prepared.data.feeds(3))
    found = {layer.output: layer for layer in layer_errors(plan, build(plan), feeds, threads=1)}
    names = list(found)[1:]
    session = Session(model_with_outputs(plan.topology.model, names), names)
    values = zip(*(session.run(feed) for feed in feeds), strict=True)
    for layer, parts in zip([found[name] for name in names], values, strict=True):
        real, half = np.concatenate([part.ravel() for part in parts]), layer.scale / 2
        assert layer.clipped == pytest.approx(np.mean((real < layer.low - half) | (real > layer.high + half)))
    assert max(layer.clipped for layer in found.values()) > 0
