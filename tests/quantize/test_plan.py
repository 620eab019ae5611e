from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import ModelError
from edgeq.integer.arithmetic import dequantize, quantize
from edgeq.quantize.calibrate import calibrate
from edgeq.quantize.plan import S8, S16, Plan, quant_picture, quant_s8, quant_s16
from edgeq.quantize.policy import Policy
from edgeq.quantize.ties import UnionFind
from edgeq.quantize.topology import Topology
from tests.quantize.models import ModelMaker, samples, small_classifier

bounds = st.floats(-1e6, 1e6)


@given(bounds, bounds)
def test_s8_holds_its_range_and_zero_exactly(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    quant = quant_s8(low, high)
    assert quant.dtype == S8
    assert -128 <= quant.zero_point <= 127
    ends = np.array([low, high, 0.0])
    back = dequantize(quantize(ends, quant.scale, quant.zero_point, S8), quant.scale, quant.zero_point)
    assert back[2] == 0
    if high - low > 1e-30:
        assert np.abs(back - ends).max() <= quant.scale * 1.01


@given(bounds, bounds)
def test_s16_is_symmetric(a: float, b: float) -> None:
    quant = quant_s16(a, b)
    assert (quant.dtype, quant.zero_point) == (S16, 0)
    if max(abs(a), abs(b)) > 1e-30:
        assert max(abs(a), abs(b)) / quant.scale == pytest.approx(32767)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_union_find_is_an_equivalence(pairs: list[tuple[int, int]]) -> None:
    found = UnionFind(str(i) for i in range(10))
    groups = {i: {i} for i in range(10)}
    for a, b in pairs:
        found.unite(str(a), str(b))
        joined = groups[a] | groups[b]
        for member in joined:
            groups[member] = joined
    for i in range(10):
        assert {int(name) for name in found.groups()[found.find(str(i))]} == groups[i]
        assert found.find(str(i)) == str(min(groups[i]))


def plan_of(graph: object, promoted: tuple[str, ...] = (), policy: str = "", observer: str = "minmax") -> Plan:
    ranges = calibrate(graph, samples(graph), observer)  # type: ignore[arg-type]
    return Plan(Topology(graph), ranges, Policy.parse(policy), promoted)  # type: ignore[arg-type]


def test_relu_and_clip_fold_into_the_range(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    plan = plan_of(graph)
    assert [layer.op for layer in plan.topology.layers][:2] == ["Conv", "Conv"]
    assert plan.quant("stem_relu").zero_point == -128
    assert plan.quant("dw_clip").scale == pytest.approx(2 / 255, rel=1e-3)


def test_softmax_and_its_logits_are_s16(tmp_path: Path) -> None:
    plan = plan_of(small_classifier(tmp_path))
    outputs = [layer.output.name for layer in plan.topology.layers]
    probability, logits = outputs[-1], outputs[-2]
    assert plan.quant(str(probability)).scale == 2.0**-15
    assert plan.quant(str(logits)).dtype == S16
    assert plan.tensor(str(logits)).reason == "softmax"


def movement(folder: Path, gain: float, *, read_twice: bool) -> Plan:
    m = ModelMaker()
    x = m.input("x", 1, 4, 6, 6)
    big = m.node("Conv", [x, m.weights(4, 4, 1, 1)], ["big"])
    weights = m.constant((gain * np.eye(4)).astype(np.float32).reshape(4, 4, 1, 1))
    small = m.node("Conv", [x, weights], ["small"])
    joined = m.node("Concat", [big, small], ["joined"], axis=1)
    pooled = m.node("MaxPool", [joined], ["pooled"], kernel_shape=[2, 2])
    flat = m.node("Flatten", [pooled], ["flat"])
    outputs = [flat]
    if read_twice:
        outputs.append(m.node("Conv", [small, m.weights(4, 4, 1, 1)], ["again"]))
    return plan_of(m.graph(folder, *outputs))


def test_movement_shares_one_scale(tmp_path: Path) -> None:
    plan = movement(tmp_path, 1.0, read_twice=True)
    assert len({plan.quant(name) for name in ("big", "small", "joined", "pooled", "flat")}) == 1


def test_fine_input_of_a_concat_keeps_its_scale_if_others_read_it(tmp_path: Path) -> None:
    plan = movement(tmp_path, 0.05, read_twice=True)
    assert plan.quant("small").scale < plan.quant("joined").scale / 5
    assert plan.ties.is_root("joined")


def test_fine_input_of_a_concat_alone_is_tied(tmp_path: Path) -> None:
    """Rounding it twice would only lose."""
    plan = movement(tmp_path, 0.05, read_twice=False)
    assert plan.quant("small") == plan.quant("joined")


def test_promotion_stops_at_ops_for_int8_only(tmp_path: Path) -> None:
    plan = movement(tmp_path, 1.0, read_twice=False)
    group = plan.ties.types.find("joined")
    wide = Plan(plan.topology, plan.ranges, plan.policy, (group,))
    assert wide.quant("big").dtype == wide.quant("joined").dtype == S16
    assert wide.quant("pooled") == wide.quant("flat") == plan.quant("joined")
    assert wide.s8("big") == plan.quant("big")
    # What a MaxPool picks is on the grid already: there is nothing to promote behind it.
    assert group in plan.candidates()
    assert plan.ties.types.find("pooled") not in plan.candidates()


def test_decided_tensors_are_no_candidates(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    plan = plan_of(graph, policy="layers: {node_stem: {activation: s8}, node_dw: {activation: s16}}")
    assert "stem_relu" not in plan.candidates()
    assert "dw_clip" not in plan.candidates()
    assert plan.tensor("dw_clip").reason == "policy"


def test_policy_chooses_observers(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    plain = plan_of(graph, observer="l2.4")
    other = plan_of(graph, observer="l2.4", policy="layers: {node_stem: {observer: minmax}}")
    assert other.tensor("stem_relu").high >= plain.tensor("stem_relu").high
    assert other.tensor("stem_relu").high == plain.ranges.statistics["stem_relu"].high


def test_pictures_keep_their_range(tmp_path: Path) -> None:
    m = ModelMaker()
    x = m.input("x", 1, 3, 24, 24)
    graph = m.graph(tmp_path, m.node("Conv", [x, m.weights(4, 3, 3, 3)]))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 24, 24)).astype(np.float32)
    pixels[:, :, 0, 0] = 255
    pixels[:, :, 0, 1] = 0
    plan = Plan(Topology(graph), calibrate(graph, {"x": pixels}, "mse"), Policy())
    assert plan.quant("x").scale == 1
    assert plan.quant("x").zero_point == -128


def test_pictures_around_zero_keep_their_levels() -> None:
    pixels = (np.arange(256) / 127.5 - 1).astype(np.float32)
    quant = quant_picture(-1.0, 1.0)
    assert quant.scale == pytest.approx(1 / 127)
    assert len(np.unique(quantize(pixels, quant.scale, quant.zero_point, S8))) >= 255
    assert quant_picture(0.0, 255.0) == quant_s8(0.0, 255.0)
    assert quant_picture(-255.0, 0.0) == quant_s8(-255.0, 0.0)
    assert quant_picture(0.0, 0.0) == quant_s8(0.0, 0.0)
    assert quant_picture(-0.001, 100.0) == quant_s8(-0.001, 100.0)


def test_missing_calibration_is_an_error(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    ranges = calibrate(graph, samples(graph))
    ranges.statistics["stem_relu"].sample_lows.clear()
    with pytest.raises(ModelError, match="was not calibrated"):
        Plan(Topology(graph), ranges, Policy()).quant("stem_relu")


def test_activation_bits_limit_the_integers_but_not_those_of_the_ends(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    ranges = calibrate(graph, samples(graph))
    topology = Topology(graph)
    plan = Plan(topology, ranges, Policy.parse("defaults: {activation_bits: 4}"))
    for value in topology.values():
        ends = plan.quant(str(value.name)).limits
        at_end = value.is_graph_input() or value.is_graph_output()
        members = plan.ties.scales.groups()[plan.ties.scales.find(str(value.name))]
        tied = any(name in members for name in (graph.inputs[0].name, graph.outputs[0].name))
        assert ends == ((-128, 127) if at_end or tied else (-8, 7)) or plan.quant(str(value.name)).dtype == S16
    named = Plan(topology, ranges, Policy.parse(f"layers: {{{graph.inputs[0].name}: {{activation_bits: 6}}}}"))
    assert named.quant(str(graph.inputs[0].name)).limits == (-32, 31)
    assert not set(plan.candidates()) & {
        str(v.name) for v in topology.values() if plan.activation_bits(str(v.name)) < 8
    }


def test_what_probabilities_are_multiplied_with_leaves_out_the_lowest_integer() -> None:
    """Every end of the range is still in reach, and zero exact."""
    for low, high in ((-1.0, 3.0), (0.0, 2.0), (-5.0, 0.0), (-2.0, 2.0)):
        quant = quant_s8(low, high, even=True)
        assert quant.limits == (-127, 127)
        ends = (np.array(quant.limits) - quant.zero_point) * quant.scale
        assert ends[0] <= low + quant.scale / 2
        assert ends[1] >= high - quant.scale / 2
    assert quant_s8(-1.0, 1.0, 4, even=True).limits == (-7, 7)
    assert quant_s8(0.0, 0.0, even=True).limits == (-127, 127)
