"""Cache, parallel work, and the two commands from end to end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeq.errors import EdgeqError
from edgeq.report import graphs, runner
from edgeq.report.results import Results
from edgeq.report.runner import Run, RunOptions, run_suite
from tests.cli.helpers import assert_refused, edgeq
from tests.report.conftest import TARGET, digits_suite


def test_finished_parts_are_not_measured_again(
    measured: Run, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(runner, "measure_graph", never)
    monkeypatch.setattr(runner, "measure_artifact", never)
    found = run_suite(digits_suite(tmp_path, digits), tmp_path).results
    assert found.without_times().entries == measured.results.without_times().entries


def test_an_interrupted_run_goes_on_where_it_stopped(
    measured: Run, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A number that no earlier session had: the part that is interrupted must not be in the cache.
    fresh = 11 + int.from_bytes(os.urandom(6), "little")
    suite = digits_suite(tmp_path, digits, more=f"measure: {{agreement_samples: 3, rounds: {fresh}}}\n")
    with monkeypatch.context() as patch:
        patch.setattr(runner, "measure_artifact", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_suite(suite, tmp_path)
    monkeypatch.setattr(runner, "measure_graph", lambda *a: pytest.fail("the graph was finished"))
    assert run_suite(suite, tmp_path).results.entries[0].agreement_samples == 3


def test_damaged_cache_is_measured_again(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = digits_suite(tmp_path, digits)
    first = run_suite(suite, tmp_path)
    facts = first.artifacts["digits", "default", TARGET].parent / "facts.json"
    good = facts.read_text()
    facts.write_text(good[: len(good) // 2])
    again = run_suite(suite, tmp_path)
    assert [e.digest for e in again.results.entries] == [e.digest for e in first.results.entries]


def test_changed_data_is_measured_again(tmp_path: Path, digits: Path) -> None:
    import numpy as np

    with np.load(digits / "eval.npz") as archive:
        arrays = {name: archive[name][:40] for name in archive.files}
    np.savez(tmp_path / "eval.npz", **arrays)
    model = f"path: {digits / 'digits.onnx'}, calib: {digits / 'calib.npz'}, calib_samples: 8"
    (tmp_path / "suite.yaml").write_text(
        f"version: 1\nmodels: {{m: {{{model}, data: eval.npz}}}}\ntargets: [{TARGET}]\n"
    )
    from edgeq.report.suite import load_suite

    suite = load_suite(tmp_path / "suite.yaml")
    first = run_suite(suite, tmp_path).results.graphs[0]
    arrays["y"] = (arrays["y"] + 1) % 10
    np.savez(tmp_path / "eval.npz", **arrays)
    second = run_suite(suite, tmp_path).results.graphs[0]
    assert first.accuracy is not None
    assert second.accuracy is not None
    assert first.accuracy > 0.9 > second.accuracy
    assert first.nodes == second.nodes


def test_error_names_the_pair_and_stops_the_rest(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise EdgeqError("no luck", where="layer x")

    monkeypatch.setattr(runner, "measure_artifact", fails)
    with pytest.raises(EdgeqError, match="no luck") as caught:
        run_suite(digits_suite(tmp_path, digits), tmp_path, RunOptions(reuse=False))
    assert caught.value.where == f"digits on {TARGET}; layer x"


def test_one_model_at_a_time_is_quantized(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewriter under the front end keeps state: two models at once were mixed up."""
    active, most, real = [0], [0], graphs._integer_graph

    def watched(*args: Any) -> Any:
        active[0] += 1
        most[0] = max(most[0], active[0])
        time.sleep(0.05)
        try:
            return real(*args)
        finally:
            active[0] -= 1

    monkeypatch.setattr(graphs, "_integer_graph", watched)
    for bits in (7, 6):
        (tmp_path / f"{bits}.yaml").write_text(f"layers: {{head: {{weight_bits: {bits}}}}}")
    more = "policies: {default: null, b: 7.yaml, c: 6.yaml}\n"
    found = run_suite(digits_suite(tmp_path, digits, more=more), tmp_path, RunOptions(jobs=3, reuse=False)).results
    assert most == [1]
    assert len({graph.outputs for graph in found.graphs}) == 3


def test_equal_parts_are_measured_once(tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], runner.measure_graph

    def counted(*args: Any) -> Any:
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(runner, "measure_graph", counted)
    suite = digits_suite(tmp_path, digits, more="policies: {default: null, b: null, c: null}\n")
    found = run_suite(suite, tmp_path, RunOptions(jobs=3, reuse=False)).results
    assert len(calls) == 1
    assert [graph.policy for graph in found.graphs] == ["default", "b", "c"]
    assert [entry.policy for entry in found.entries] == ["default", "b", "c"]


def test_progress_is_told(measured: Run, tmp_path: Path, digits: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    options = RunOptions(progress=lambda *step: seen.append(step))
    run_suite(digits_suite(tmp_path, digits), tmp_path, options)
    assert seen == [("graphs", 1, 1), ("artifacts", 1, 1)]


def test_command_writes_everything(measured: Run, tmp_path: Path, digits: Path) -> None:
    digits_suite(tmp_path, digits)
    base = ("regress", "--suite", tmp_path / "suite.yaml", "--baseline", tmp_path / "base.json")
    first = edgeq(*base, "--update-baseline", "--artifacts", tmp_path / "kept", "--history", tmp_path / "h")
    assert first.code == 0, first.err
    assert "baseline written" in first.out
    outputs = ("--html", tmp_path / "r.html", "--markdown", tmp_path / "s.md", "--junit", tmp_path / "j.xml")
    second = edgeq(*base, *outputs, "--baseline-artifacts", tmp_path / "kept", "--history", tmp_path / "h")
    assert second.code == 0, second.err
    assert "PASS: no change" in second.out
    assert ElementTree.parse(tmp_path / "j.xml").getroot().find("testsuite") is not None
    assert "<!DOCTYPE html>" in (tmp_path / "r.html").read_text()
    assert (tmp_path / "s.md").read_text().startswith("## ✅")
    assert len(list((tmp_path / "h").glob("*.json"))) == 2
    assert len(list((tmp_path / "kept").glob("*.edgeq"))) == 1


def test_command_ends_with_1_on_a_regression(measured: Run, tmp_path: Path, digits: Path) -> None:
    digits_suite(tmp_path, digits, more="limits: {arena: {max: 1 KiB}}\n")
    outcome = edgeq("regress", "--suite", tmp_path / "suite.yaml", "--json")
    assert outcome.code == 1
    verdict = outcome.json["verdict"]
    assert verdict["status"] == "fail"
    assert [f["check"] for f in verdict["findings"] if f["status"] == "fail"] == ["arena"]
    Results.model_validate(outcome.json["results"])


def test_report_of_one_and_of_two(measured: Run, tmp_path: Path, digits: Path) -> None:
    old = measured.artifacts["digits", "default", TARGET]
    (tmp_path / "policy.yaml").write_text("defaults: {requantize: single}")
    suite = digits_suite(tmp_path, digits, more="policies: {default: policy.yaml}\n")
    new = run_suite(suite, tmp_path).artifacts["digits", "default", TARGET]
    page = tmp_path / "page.html"
    outcome = edgeq("report", old, new, "-o", page, "--repeat", 3)
    assert outcome.code == 0, outcome.err
    assert "2 artifacts" in page.read_text()
    outcome = edgeq("report", "--compare", old, new, "-o", page, "--repeat", 3, "--json")
    assert outcome.code == 0, outcome.err
    changed = {f["check"]: f for f in outcome.json["verdict"]["findings"] if f["status"] == "fail"}
    assert "is new: 0 →" in str(changed["code"]["changes"])
    assert "Requantize" in str([finding["changes"] for finding in changed.values()])
    assert "allowed" not in page.read_text()
    outcome = edgeq("report", "--compare", old, new, "-o", page, "--repeat", 0, "--no-instructions")
    assert "worse" in outcome.out


def test_report_refuses(measured: Run, tmp_path: Path) -> None:
    old = measured.artifacts["digits", "default", TARGET]
    assert_refused(edgeq("report", tmp_path / "no.edgeq"), "no such artifact")
    assert_refused(edgeq("report", "--compare", old, "-o", tmp_path / "x.html"), "--compare takes two", "1 were given")
    damaged = tmp_path / "damaged.edgeq"
    damaged.write_bytes(old.read_bytes()[:-5])
    assert_refused(edgeq("report", damaged, "-o", tmp_path / "x.html"), "damaged.edgeq")
    assert not (tmp_path / "x.html").exists()
