from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import PolicyError
from edgeq.integer.graph import STORAGE, IntegerGraph
from edgeq.quantize import Policy, QuantizeOptions, quantize
from edgeq.quantize.report import LayerReport
from tests.quantize.models import samples, small_classifier


def reports(folder: Path, policy: str) -> dict[str, LayerReport]:
    graph = small_classifier(folder)
    options = QuantizeOptions(policy=Policy.parse(policy), compare_samples=0)
    result = quantize(graph, samples(graph), options)
    return {layer.name: layer for layer in result.report.layers}


def test_later_and_nearer_entries_win() -> None:
    policy = Policy.parse(
        "defaults: {weight_bits: 7, requantize: single}\n"
        "layers:\n  'conv*': {weight_bits: 6}\n  'conv[12]': {weight_bits: 5}\n  conv2: {activation: s16}\n"
    )
    assert policy.layer("fc").weight_bits == 7
    assert policy.layer("conv9").weight_bits == 6
    assert policy.layer("conv1").weight_bits == 5
    both = policy.layer("conv2")
    assert (both.weight_bits, both.activation, both.requantize) == (5, "s16", "single")


def test_names_with_brackets_match_themselves() -> None:
    policy = Policy.parse("layers: {'block[0]/conv': {weight_bits: 4}}")
    assert policy.layer("block[0]/conv").weight_bits == 4


def test_empty_policy_is_the_default() -> None:
    assert Policy.parse("") == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers: {a: {weight_bit: 4}}", "did you mean 'weight_bits'"),
        ("layer: {}", "did you mean 'layers'"),
        ("zzz: 1", "known keys: version, defaults, first, last, depthwise, layers"),
        ("defaults: {weight_bits: 9}", "weight_bits"),
        ("defaults: {weight_bits: 0}", "weight_bits"),
        ("defaults: {activation: s4}", "'s8' or 's16'"),
        ("defaults: {observer: best}", "observer"),
        ("version: 2", "version"),
        ("[a, b]", "not a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy.parse(text)


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="can't be read"):
        Policy.load(tmp_path / "none.yaml")
    (tmp_path / "p.yaml").write_text("defaults: {scale: pow2}")
    assert Policy.load(tmp_path / "p.yaml").defaults.scale == "pow2"


def test_unknown_layer_gives_near_names(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="'node_stem_rel'") as caught:
        reports(tmp_path, "layers: {node_stem_rel: {weight_bits: 4}}")
    assert "node_stem" in str(caught.value.hint)
    with pytest.raises(PolicyError, match="matches it"):
        reports(tmp_path, "layers: {'head.*': {weight_bits: 4}}")


def test_weight_bits_and_forms(tmp_path: Path) -> None:
    found = reports(
        tmp_path,
        "layers:\n"
        "  node_stem: {weight_bits: 4, requantize: single}\n"
        "  dw*: {activation: s16}\n"
        "  x: {observer: minmax}\n",
    )
    assert (found["node_stem"].weight_bits, found["node_stem"].requantize) == (4, "single")
    assert (found["node_dw"].dtype, found["node_dw"].reason, found["node_dw"].requantize) == (
        "int16",
        "policy",
        "single",
    )
    assert found["node_gap"].weight_bits is None
    other = reports(tmp_path, "")
    assert (other["node_stem"].weight_bits, other["node_stem"].requantize) == (8, "narrow")
    assert other["node_dw"].dtype == "int8"


def test_weight_bits_bound_the_integers(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    for bits in (2, 4, 7, 8):
        policy = Policy.parse(f"defaults: {{weight_bits: {bits}}}")
        result = quantize(graph, samples(graph), QuantizeOptions(policy=policy, compare_samples=0))
        weights = result.graph.value("node_stem.weight").const_value
        assert weights is not None
        assert np.abs(weights.numpy().astype(int)).max() == 2 ** (bits - 1) - 1


def test_powers_of_two(tmp_path: Path) -> None:
    """The multiplier is the same power of two for every channel: only the shift differs."""
    graph = small_classifier(tmp_path)
    policy = Policy.parse("defaults: {scale: pow2, requantize: single}")
    result = quantize(graph, samples(graph), QuantizeOptions(policy=policy))
    multiplier = result.graph.value("node_stem.multiplier").const_value
    assert multiplier is not None
    assert (multiplier.numpy() == 2**30).all()
    assert result.report.outputs[0].sqnr_db > 15


def test_interpolated_tables(tmp_path: Path) -> None:
    from tests.quantize.models import ModelMaker

    m = ModelMaker()
    y = m.node("Conv", [m.input("x", 1, 3, 5, 5), m.weights(4, 3, 1, 1)], ["c"])
    graph = m.graph(tmp_path, m.node("Sigmoid", [y], ["s"]))
    plain = quantize(graph, samples(graph)).report
    policy = Policy.parse("layers: {node_s: {nonlinear: interp}}")
    fine = quantize(graph, samples(graph), QuantizeOptions(policy=policy)).report
    assert [layer.nonlinear for layer in plain.layers] == [None, "table"]
    assert [layer.nonlinear for layer in fine.layers] == [None, "interp"]
    assert [layer.dtype for layer in fine.layers] == ["int16", "int8"]
    assert fine.outputs[0].sqnr_db > plain.outputs[0].sqnr_db


def test_storage_of_weights_is_noted_for_the_compiler(tmp_path: Path) -> None:
    graph = small_classifier(tmp_path)
    policy = Policy.parse("layers: {node_stem: {weights: small}}")
    result = quantize(graph, samples(graph), QuantizeOptions(policy=policy, compare_samples=0))
    result.graph.save(tmp_path / "noted.int.onnx")
    noted = [n.metadata_props.get(STORAGE) for n in IntegerGraph.load(tmp_path / "noted.int.onnx").model.graph]
    assert noted.count("small") == 1
    with pytest.raises(PolicyError, match="weights"):
        Policy.parse("defaults: {weights: tiny}")
