"""Limits, waivers, improvements, absent figures: on figures made up for it."""

from __future__ import annotations

import pytest

from edgeq.report.judge import Verdict, judge, limits_of
from edgeq.report.results import Results
from edgeq.report.suite import Suite
from tests.report.helpers import DAY, plain_results, plain_suite, texts

WAIVER = {"model": "cat", "target": "arm", "check": "instructions", "reason": "new kernel", "until": "2030-02-01"}


def with_more_instructions(extra: int = 40, model: str = "cat", target: str = "arm") -> Results:
    results = plain_results()
    entry = results.entry((model, "default", target))
    assert entry is not None
    entry.instructions = (entry.instructions or 0) + extra
    entry.steps[1].instructions = (entry.steps[1].instructions or 0) + extra
    return results


def check(suite: Suite, results: Results) -> Verdict:
    return judge(suite, results, plain_results(), DAY)


def test_same_figures_pass() -> None:
    verdict = check(plain_suite(), plain_results())
    assert verdict.status == "pass"
    assert {f.status for f in verdict.findings} == {"pass"}


def test_one_instruction_more_is_a_regression_of_one_layer_on_one_target() -> None:
    verdict = check(plain_suite(), with_more_instructions(1))
    (finding,) = verdict.of("fail")
    assert (finding.model, finding.target, finding.check) == ("cat", "arm", "instructions")
    assert finding.changes[0].layer == "head (Conv+RequantizeNarrow)"
    assert "3,000 → 3,001" in finding.changes[0].what
    assert "no increase allowed" in finding.sentence


def test_fewer_instructions_ask_for_a_new_baseline() -> None:
    results = with_more_instructions(-40)
    verdict = check(plain_suite(), results)
    assert verdict.status == "improved"
    for content in texts(verdict, results, plain_results()).values():
        assert "IMPROVED" in content
    assert "--update-baseline" in texts(verdict, results)["markdown"]


def test_relative_limit() -> None:
    suite = plain_suite(limits={"instructions": {"increase": 1}})
    assert check(suite, with_more_instructions(40)).status == "pass"
    assert check(suite, with_more_instructions(41)).status == "fail"


def test_absolute_limits_hold_without_a_baseline() -> None:
    suite = plain_suite(limits={"arena": {"max": "0.5 KiB"}, "accuracy": {"worst": 0.95}})
    verdict = judge(suite, plain_results(), None, DAY)
    assert {(f.check, f.allowed) for f in verdict.of("fail")} == {
        ("arena", "the limit is 512 B"),
        ("accuracy", "the limit is 95.00 %"),
    }


def test_limits_of_models_and_overrides_replace_those_of_the_suite() -> None:
    override = {"target": "arm", "limits": {"code": {"increase": 3}}}
    suite = plain_suite(limits={"code": {"increase": 1}, "file": {}}, overrides=[override])
    assert limits_of(suite, ("cat", "default", "arm")).code.increase == 3
    assert limits_of(suite, ("cat", "default", "x86-avx2")).code.increase == 1
    assert limits_of(suite, ("cat", "default", "arm")).file.increase is None
    assert limits_of(suite, ("cat", "default", "arm")).weights.increase == 0


@pytest.mark.parametrize(("drop", "status"), [(0.0019, "pass"), (0.0021, "fail"), (-0.0021, "improved")])
def test_accuracy_counts_in_points(drop: float, status: str) -> None:
    results = plain_results()
    results.graphs[1].accuracy = 0.9 - drop
    results.graphs[1].nodes[1].sqnr = 35.0
    verdict = check(plain_suite(), results)
    assert verdict.status == status
    if status == "fail":
        (finding,) = verdict.of("fail")
        assert finding.title == "dog"
        assert "0.21 points worse" in finding.text
        assert (
            "stem.requantize: loses most against the float model: SQNR 35.0 dB, was 40.0 dB" in finding.changes[0].text
        )


def test_a_metric_where_lower_is_better() -> None:
    models = {"cat": {"path": "c", "data": "d", "metric": "mse", "limits": {"accuracy": {"drop": 0.01}}}}
    suite = plain_suite(models=models)
    results, old = plain_results(), plain_results()
    for both in (results, old):
        both.graphs, both.entries = both.graphs[:1], both.entries[:2]
        both.graphs[0].metric = "mse"
    results.graphs[0].accuracy = 0.92
    assert judge(suite, results, old, DAY).status == "fail"
    results.graphs[0].accuracy = 0.88
    assert judge(suite, results, old, DAY).status == "improved"


def test_bits_that_change_are_told_where_they_are_allowed() -> None:
    results = plain_results()
    results.graphs[0].nodes[0].constants = "changed"
    assert check(plain_suite(), results).of("fail")[0].changes[0].text == "stem: weights changed"
    verdict = check(plain_suite(limits={"bits": "any"}), results)
    assert verdict.status == "pass"
    assert any("first in stem (allowed" in f.text for f in verdict.findings)


def test_other_values_from_the_same_graph_are_blamed_on_the_first_op() -> None:
    results = plain_results()
    for node in results.graphs[0].nodes[1:]:
        node.output += "x"
    finding = check(plain_suite(), results).of("fail")[0]
    assert finding.changes[0].layer == "stem.requantize"
    assert "the arithmetic of RequantizeNarrow changed" in finding.changes[0].what
    assert "2 nodes behind" in finding.changes[1].layer


def test_waiver_covers_until_its_day_and_says_why() -> None:
    results = with_more_instructions()
    verdict = check(plain_suite(waivers=[WAIVER]), results)
    assert verdict.status == "waived"
    assert verdict.of("waived")[0].waiver == "new kernel (until 2030-02-01)"
    for content in texts(verdict, results, plain_results()).values():
        assert "new kernel" in content


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"until": "2029-12-31"}, "expired on 2029-12-31: new kernel"),
        ({"limit": 4010}, "beyond what its waiver covers (4010)"),
    ],
)
def test_waiver_that_no_longer_covers(change: dict[str, object], note: str) -> None:
    verdict = check(plain_suite(waivers=[{**WAIVER, **change}]), with_more_instructions())
    assert verdict.status == "fail"
    assert any(note in text for text in verdict.notes)


def test_waiver_of_another_target_covers_nothing_and_is_named() -> None:
    verdict = check(plain_suite(waivers=[{**WAIVER, "target": "x86-*"}]), with_more_instructions())
    assert verdict.status == "fail"
    assert any("covers nothing any more" in note for note in verdict.notes)


def test_a_pair_that_is_no_longer_measured_is_a_regression() -> None:
    results = plain_results()
    gone = results.entries.pop()
    (finding,) = check(plain_suite(), results).of("fail")
    assert (finding.check, finding.model, finding.target) == ("presence", gone.model, gone.target)


def test_a_figure_that_can_no_longer_be_measured_is_a_regression() -> None:
    results = plain_results()
    results.entries[0].instructions = None
    (finding,) = check(plain_suite(), results).of("fail")
    assert "could not be measured" in finding.text
    results = plain_results()
    results.entries[0].ran = "no"
    results.entries[0].notes.append("no emulator")
    assert "no emulator" in check(plain_suite(), results).of("fail")[0].text


def test_a_new_pair_is_told() -> None:
    old = plain_results()
    old.entries.pop()
    verdict = judge(plain_suite(), plain_results(), old, DAY)
    assert verdict.status == "pass"
    assert {f.check for f in verdict.of("new")} >= {"instructions", "arena"}


@pytest.mark.parametrize(
    ("check_name", "words"),
    [
        ("arena", "features: buffer changed: 512 → 640 B, written by stem, alive at the fullest step (stem)"),
        ("weights", "stem (Conv+RequantizeNarrow): 64 → 192 B of weights"),
        ("code", "stem: kernel conv_stem changed: 500 → 628 B of code"),
        ("stack", "stem (Conv+RequantizeNarrow): kernel conv_stem → conv_new"),
    ],
)
def test_every_size_names_its_layer(check_name: str, words: str) -> None:
    results = plain_results()
    entry = results.entries[1]
    setattr(entry, check_name, getattr(entry, check_name) + 128)
    if check_name == "arena":
        entry.memory[1].size += 128
    elif check_name == "stack":
        entry.steps[0].kernel = "conv_new"
    else:
        field = {"weights": "weight_bytes", "code": "code_bytes"}[check_name]
        setattr(entry.steps[0], field, getattr(entry.steps[0], field) + 128)
    verdict = check(plain_suite(), results)
    (finding,) = verdict.of("fail")
    assert (finding.title, finding.check) == ("cat on x86-avx2", check_name)
    assert words in finding.changes[0].text
    for content in texts(verdict, results, plain_results()).values():
        assert finding.changes[0].layer in content
