"""Suite, baseline and history files: everything that can be wrong with them is one message, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UsageError
from edgeq.report.judge import Finding
from edgeq.report.results import Results, append_history, load_history, load_results, save_results
from edgeq.report.suite import STARTER, Suite, load_suite, parse_size
from edgeq.report.text import Report, schema_text
from tests.cli.helpers import assert_refused, edgeq
from tests.conftest import ROOT
from tests.report.helpers import plain_results, suite_of

GOOD = "version: 1\nmodels: {m: {path: m.onnx, data: d.npz}}\ntargets: [arm]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", ("not YAML",)),
        ("- a\n- b\n", ("not a mapping",)),
        ("version: 1\ntargets: [arm]\n", ("lacks 'models'",)),
        (GOOD.replace("version: 1", "version: 2"), ("version", "Input should be 1")),
        (GOOD.replace("targets: [arm]", "targets: []"), ("targets", "at least 1")),
        (GOOD + "limit: {}\n", ("unknown key 'limit'", "did you mean 'limits'")),
        (GOOD + "limits: {accuracy: {dorp: 1}}\n", ("unknown key 'dorp'", "did you mean 'drop'")),
        (GOOD + "limits: {arena: {max: 64 Kio}}\n", ("limits.arena.max", "64 Kio")),
        (GOOD + "limits: {code: {increase: -1}}\n", ("limits.code.increase", "greater than or equal to 0")),
        (GOOD + "limits: {bits: equal}\n", ("limits.bits", "'same' or 'any'")),
        (GOOD.replace("d.npz}", "d.npz, targets: [arms]}"), ("'arms'", "there are arm")),
        (GOOD.replace("d.npz}", "d.npz, policies: [tiny]}"), ("'tiny'", "there are default")),
        (GOOD + "waivers: [{model: m, check: code, reason: none, until: soon}]\n", ("waivers.0.until",)),
        (GOOD + "waivers: [{model: m, check: code, until: 2030-01-01}]\n", ("lacks 'reason'",)),
    ],
)
def test_broken_suite(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    baseline = tmp_path / "baseline.json"
    baseline.write_text("untouched")
    outcome = edgeq(
        "regress", "--suite", path, "--baseline", baseline, "--html", tmp_path / "r.html", "--update-baseline"
    )
    assert_refused(outcome, *words)
    assert baseline.read_text() == "untouched"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["baseline.json", "suite.yaml"]


def test_missing_suite_is_refused(tmp_path: Path) -> None:
    assert_refused(edgeq("regress", "--suite", tmp_path / "no.yaml"), "can't be read", "--init")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("no baseline", "--update-baseline")),
        ("{", ("the baseline is damaged",)),
        ("[1]", ("no file of edgeq regress",)),
        ('{"format": "edgeq-results", "schema": 99}', ("another schema", "schema 99, this edgeq reads 1")),
        ('{"format": "edgeq-results", "schema": 1, "suite": "x"}', ("the baseline is damaged", "edgeq")),
        ("\xff\xfe", ("the baseline is",)),
    ],
)
def test_broken_baseline(tmp_path: Path, content: str | None, words: tuple[str, ...]) -> None:
    suite_of(tmp_path, GOOD)
    path = tmp_path / "baseline.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    outcome = edgeq(
        "regress", "--suite", tmp_path / "suite.yaml", "--baseline", path, "--junit", tmp_path / "j.xml",
        "--history", tmp_path / "history",
    )  # fmt: skip
    assert_refused(outcome, *words)
    assert not (tmp_path / "j.xml").exists()
    assert not (tmp_path / "history").exists()
    assert (path.read_bytes() if path.exists() else None) == (content.encode("latin-1") if content else None)


def test_corrupt_history(tmp_path: Path) -> None:
    suite_of(tmp_path, GOOD)
    folder = tmp_path / "history"
    append_history(folder, plain_results())
    (folder / "20300102T000000Z.json").write_text('{"format": "edgeq-results", "schema": 1, "suite": 3}')
    outcome = edgeq("regress", "--suite", tmp_path / "suite.yaml", "--history", folder, "--markdown", tmp_path / "m.md")
    assert_refused(outcome, "the history entry is damaged", "20300102T000000Z.json", "delete or restore")
    assert not (tmp_path / "m.md").exists()
    assert len(list(folder.iterdir())) == 2


def test_history_and_artifacts_must_be_folders(tmp_path: Path) -> None:
    suite_of(tmp_path, GOOD)
    (tmp_path / "file").write_text("")
    common = ("regress", "--suite", tmp_path / "suite.yaml")
    assert_refused(edgeq(*common, "--history", tmp_path / "file"), "the history is no folder")
    assert_refused(edgeq(*common, "--artifacts", tmp_path / "file"), "can't write into the folder")
    assert_refused(edgeq(*common, "--baseline-artifacts", tmp_path / "none"), "no folder with the baseline's artifacts")
    assert_refused(edgeq(*common, "--html", tmp_path), "it is a folder")
    assert_refused(edgeq(*common, "--html", tmp_path / "no" / "r.html"), "its folder doesn't exist")
    assert_refused(edgeq(*common, "--update-baseline"), "--update-baseline needs --baseline")


def test_missing_model_is_named_before_any_work(tmp_path: Path) -> None:
    suite_of(tmp_path, GOOD)
    assert_refused(edgeq("regress", "--suite", tmp_path / "suite.yaml"), "models.m.path", "m.onnx")


def test_unknown_target_is_named(tmp_path: Path) -> None:
    suite_of(tmp_path, GOOD.replace("[arm]", "[armm]"))
    assert_refused(edgeq("regress", "--suite", tmp_path / "suite.yaml"), "unknown target 'armm'", "'arm'")


def test_init_writes_a_suite_that_loads_and_never_replaces_one(tmp_path: Path, digits: Path) -> None:
    path = tmp_path / "suite.yaml"
    outcome = edgeq("regress", "--suite", path, "--init", digits / "digits.onnx")
    assert outcome.code == 0
    suite = load_suite(path)
    assert (tmp_path / suite.models["digits"].path).is_file()
    before = path.read_text()
    assert_refused(edgeq("regress", "--suite", path, "--init", digits / "digits.onnx"), "there is a suite already")
    assert path.read_text() == before
    assert_refused(edgeq("regress", "--init", tmp_path / "no.onnx"), "no such model")


def test_starter_has_every_kind_of_key() -> None:
    assert {"models", "targets", "measure", "limits", "waivers"} <= {
        line.strip("# ").split(":")[0] for line in STARTER.splitlines()
    }


def test_results_survive_a_round_trip(tmp_path: Path) -> None:
    results = plain_results()
    save_results(results, tmp_path / "r.json")
    assert load_results(tmp_path / "r.json", "baseline") == results
    # A line for each step and node: the diff of a baseline in a repository can be read.
    assert sum('"kernel"' in line for line in (tmp_path / "r.json").read_text().splitlines()) == 8


def test_history_keeps_every_run_in_order(tmp_path: Path) -> None:
    for arena in (1, 2, 3):
        results = plain_results()
        results.entries[0].arena = arena
        append_history(tmp_path / "h", results)
    found = load_history(tmp_path / "h")
    assert sorted(r.entries[0].arena for r in found) == [1, 2, 3]
    assert load_history(tmp_path / "none") == []


@given(number=st.integers(0, 10**6), unit=st.sampled_from(["B", "KB", "KiB", "MB", "MiB", "kib"]))
def test_sizes(number: int, unit: str) -> None:
    factor = {"b": 1, "kb": 1000, "kib": 1024, "mb": 10**6, "mib": 2**20}[unit.lower()]
    assert parse_size(f"{number} {unit}") == parse_size(f"{number}{unit}") == number * factor
    assert parse_size(number) == number


@pytest.mark.parametrize(
    ("name", "kind", "title"),
    [("suite", Suite, "edgeq suite"), ("results", Results, "edgeq results"), ("report", Report, "edgeq report")],
)
def test_published_schema_is_that_of_the_code(name: str, kind: type, title: str) -> None:
    assert (ROOT / "docs" / "schema" / f"{name}.json").read_text() == schema_text(kind, title)


def test_a_finding_is_what_its_schema_says() -> None:
    fields = json.loads(schema_text(Finding, "finding"))["properties"]
    assert set(Finding(model="m", policy="p", check="code").model_dump()) == set(fields)


def test_integer_graph_takes_no_calibration(tmp_path: Path, digits: Path) -> None:
    import edgeq as package
    from edgeq.report.runner import run_suite

    package.quantize(digits / "digits.onnx", "random", output=tmp_path / "g.onnx")
    data = digits / "eval.npz"
    for extra, words in (("calib: random", "already quantized"), ("metric: auc", "auc needs one score")):
        suite = suite_of(
            tmp_path, f"version: 1\nmodels: {{m: {{path: g.onnx, data: {data}, {extra}}}}}\ntargets: [arm]\n"
        )
        with pytest.raises(Exception, match=words):
            run_suite(suite, tmp_path)
    suite = suite_of(
        tmp_path, f"version: 1\nmodels: {{m: {{path: {digits}/digits.onnx, data: {data}}}}}\ntargets: [arm]\n"
    )
    with pytest.raises(UsageError, match="needs calibration data"):
        run_suite(suite, tmp_path)
