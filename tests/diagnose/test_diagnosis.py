"""The guilty layer is the planted one, and the first remedy cures it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.compiler.target import load_target
from edgeq.diagnose import debug
from edgeq.diagnose.cost import Cost
from edgeq.diagnose.outcome import Outcome, Referee
from edgeq.diagnose.page import advice, headline, page
from edgeq.diagnose.remedies import Change, Remedy, ranked
from edgeq.errors import UsageError
from edgeq.frontend import FloatGraph
from edgeq.quantize import Policy, QuantizeOptions, quantize, random_data
from edgeq.quantize.error.judge import split
from edgeq.quantize.topology import Topology
from tests.diagnose.conftest import PLAIN, samples_for


def test_outliers_are_found_and_cured(outliers: FloatGraph) -> None:
    data = samples_for(outliers)
    found = debug(outliers, data, PLAIN, target=load_target("host"))
    assert [guilt.layer for guilt in found.cause] == ["node_second"]
    assert found.guilty[0].activation > 10 * found.guilty[0].weight
    best = found.remedies[0]
    assert best.helps
    assert best.is_enough
    assert best.change.layers["second"] == {"activation": "s16"}
    assert best.outcome.error < 0.05 * found.outcome.error
    assert best.cost.arena is not None
    # What the remedy says can be done by its options alone, and has the same result.
    treated = quantize(outliers, data, best.change.options(PLAIN))
    reference = Referee(Topology(outliers), split(data)[1], threads=1)
    assert reference.samples
    assert treated.graph.quant("second").dtype.name == "int16"


def test_narrow_weights_are_found_and_cured(outliers: FloatGraph) -> None:
    policy = Policy.of({"layers": {"node_first": {"weight_bits": 2}, "second": {"activation": "s16"}}})
    found = debug(outliers, samples_for(outliers), replace(PLAIN, policy=policy))
    assert found.guilty[0].layer == "node_first"
    assert found.guilty[0].weight > found.guilty[0].activation
    best = found.remedies[0]
    assert best.change.layers["node_first"] == {"weight_bits": 8}
    # The policy that is in use stays in force.
    assert best.change.policy(policy).layers["second"].activation == "s16"
    assert best.outcome.error < 0.05 * found.outcome.error
    assert found.target is None
    assert best.cost.arena is None


def test_json_and_page_hold_it_all(outliers: FloatGraph) -> None:
    found = debug(outliers, samples_for(outliers), PLAIN)
    content = json.loads(json.dumps(found.as_dict()))
    assert content["cause"] == ["node_second"]
    assert content["remedies"][0]["policy"].startswith("version: 1")
    text = page("net<1>.onnx", found)
    assert "net&lt;1&gt;.onnx" in text
    assert "://" not in text
    assert headline(found) in text
    assert "node_second" in headline(found)
    assert found.remedies[0].name in advice(found)
    assert text.count("<details id=") == len(found.layers)


def test_random_data_is_refused(outliers: FloatGraph) -> None:
    data = samples_for(outliers)
    with pytest.raises(UsageError, match="needs real data") as error:
        debug(outliers, random_data(data.specs), QuantizeOptions())
    assert error.value.hint


def remedy(name: str, error: float, products: float) -> Remedy:
    return Remedy(name, name, Change(), Outcome(error, None), Cost(0, None, products, "ps"), False, True)


def test_cost_decides_within_the_noise() -> None:
    given = [remedy("dear", 1.0, 5), remedy("cheap", 1.05, 2), remedy("worse", 1.3, 1)]
    assert [each.name for each in ranked(given)] == ["cheap", "dear", "worse"]


def test_changes_join() -> None:
    first = Change("mse", {"a": {"activation": "s16"}}, steps=("gptq",))
    second = Change(None, {"a": {"weight_bits": 8}, "b": {"activation": "s16"}}, {"requantize": "single"}, ("gptq",))
    both = first | second
    assert both.observer == "mse"
    assert both.layers == {"a": {"activation": "s16", "weight_bits": 8}, "b": {"activation": "s16"}}
    assert both.steps == ("gptq",)
    assert both.flags() == "--observer mse --steps gptq --policy FILE"
    assert Policy.parse(both.policy_text()).defaults.requantize == "single"


def test_command(outliers: FloatGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from edgeq.cli.main import invoke

    np.savez(tmp_path / "calib.npz", **samples_for(outliers).arrays)
    given = ["debug", str(tmp_path / "model.onnx"), "--calib", str(tmp_path / "calib.npz"), "--observer", "minmax"]
    written = ["-o", str(tmp_path / "debug.html"), "--write-policy", str(tmp_path / "fix.yaml")]
    assert invoke([*given, *written, "--formats"]) == 0
    shown = capsys.readouterr().out
    assert "node_second" in shown
    assert "fp8 e4m3" in shown
    assert "Number formats" in (tmp_path / "debug.html").read_text()
    assert Policy.load(tmp_path / "fix.yaml").layers["second"].activation == "s16"
    assert invoke([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cause"] == ["node_second"]
    assert invoke([*given[:3], "random"]) == 2
    assert "needs real data" in capsys.readouterr().err
    assert invoke([*given[:2]]) == 2
    assert "calibration data" in capsys.readouterr().err
