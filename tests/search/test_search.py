"""From a model to a policy: limits are kept, nothing is judged twice, what can't be kept is said."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import DataError, UsageError
from edgeq.quantize.policy import Policy
from edgeq.search import searcher as module
from edgeq.search.limits import Limits
from edgeq.search.problem import Problem, load_problem
from edgeq.search.result.write import policy_text
from edgeq.search.run import find_policy
from edgeq.search.space import Form
from edgeq.search.store import Store
from tests.cli.helpers import edgeq

TARGET = "x86-avx2"


@pytest.fixture(scope="module")
def problem(digits: Path) -> Problem:
    return load_problem(
        digits / "digits.onnx", digits / "calib.npz", TARGET, evaluation=digits / "eval.npz", calib_samples=64
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("search") / "facts.sqlite")


def test_accuracy_is_kept_and_bits_are_saved(problem: Problem, store: Store) -> None:
    found = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    assert found.best.accuracy >= problem.judge.reference - 0.005
    assert found.best.predicted["bitops"] < 0.8 * found.uniform.predicted["bitops"]
    assert {form.bits for form in found.best.forms.values()} <= {8, 4, 2}
    costs = [c.predicted["bitops"] for c in found.front]
    accuracies = [c.accuracy for c in found.front]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)


def test_the_same_bits_everywhere_are_judged_too(problem: Problem, store: Store) -> None:
    found = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    judged = [candidate.forms for candidate in found.seen]
    assert found.space.uniform(4) in judged
    # Narrower ones only where these kept to the accuracy.
    four = next(candidate for candidate in found.seen if candidate.forms == found.space.uniform(4))
    assert found.least is not None
    assert (found.space.uniform(2) in judged) >= (four.accuracy >= found.least)


def test_sensitivities_are_doubted_place_by_place() -> None:
    from edgeq.search.run import _doubted

    harm = {"a": {Form(8): 0.0, Form(4): 4.0}, "b": {Form(8): 0.0, Form(4): 9.0}}
    assert _doubted(harm, [0.0, 0.0]) == harm
    assert _doubted(harm, [np.log(2), 0.0], 0.5) == {
        "a": {Form(8): 0.0, Form(4): pytest.approx(4.0)},
        "b": {Form(8): 0.0, Form(4): pytest.approx(3.0)},
    }


def test_the_front_is_shown_as_it_grows(problem: Problem, store: Store) -> None:
    from edgeq.cli.search_live import LINES, front_table, live

    fronts: list[int] = []
    found = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2),
        watch=lambda front, objective: fronts.append(len(front)),
    )  # fmt: skip
    assert len(fronts) >= found.judged[0]
    assert fronts[-1] >= len(found.front) - 1
    assert front_table(found.front, "bitops").row_count == min(LINES, len(found.front))
    assert front_table(found.front * LINES, "bitops").row_count == LINES
    with live(True) as (progress, watch):
        progress("judged", 1, 2)
        watch(found.front, "bitops")


def test_as_accurate_as_a_limit_allows(problem: Problem, store: Store) -> None:
    cheap = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    most = cheap.costs.total("weights", cheap.space.uniform(4, True))
    found = find_policy(
        problem, Limits(weights=most), objective="accuracy", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    assert found.best.predicted["weights"] <= most < found.uniform.predicted["weights"]
    within = [each for each in found.seen if each.predicted["weights"] <= most]
    assert found.best.accuracy >= max(each.accuracy for each in within) - 0.02  # made anew, a sample may change
    assert found.best.predicted["energy"] < found.uniform.predicted["energy"]


def test_without_labels_closeness_to_the_float_model_counts(digits: Path, tmp_path: Path, store: Store) -> None:
    np.savez(tmp_path / "x.npz", x=np.load(digits / "calib.npz")["x"][:64])
    close = load_problem(digits / "digits.onnx", tmp_path / "x.npz", TARGET, metric="divergence")
    assert close.judge.reference == 0
    assert not close.judge.has_labels
    found = find_policy(close, Limits(drop=0.01), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2))
    assert -0.01 <= found.best.accuracy < 0
    assert found.uniform.accuracy > min(each.accuracy for each in found.seen)


def test_second_search_judges_nothing_again(problem: Problem, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    monkeypatch.setattr(module, "judge_assignment", lambda *a: pytest.fail("judged again"))
    again = find_policy(
        problem, Limits(drop=0.5), objective="bitops", store=store, kinds=("weights",), widths=(8, 4, 2)
    )
    assert again.best == first.best
    assert again.judged[1] == 0


def test_policy_is_what_was_judged(problem: Problem, store: Store, digits: Path, tmp_path: Path) -> None:
    found = find_policy(problem, Limits(drop=1.0), objective="bitops", store=store, kinds=("weights",), widths=(8, 4))
    text = policy_text(found, Policy(), "digits.onnx", TARGET)
    policy = Policy.parse(text)
    for name, form in found.best.forms.items():
        assert policy.layer(name).weight_bits == form.bits
    assert text.count("  # ") == len(found.best.forms)


def test_fixed_layers_stay(digits: Path, store: Store, problem: Problem, tmp_path: Path) -> None:
    from edgeq.search.space import find_space

    middle = find_space(problem.prepared.plan).free[0].name
    policy = tmp_path / "policy.yaml"
    policy.write_text(f'version: 1\nlayers: {{"{middle}": {{weight_bits: 5, requantize: single}}}}\n')
    fixed = load_problem(
        digits / "digits.onnx",
        digits / "calib.npz",
        TARGET,
        evaluation=digits / "eval.npz",
        calib_samples=64,
        policy=policy,
    )
    found = find_policy(fixed, Limits(), objective="bitops", store=store, kinds=("weights",), widths=(8, 4))
    assert found.best.forms[middle].bits == 5
    text = policy_text(found, Policy.load(policy), "digits.onnx", TARGET)
    assert Policy.parse(text).layer(middle).requantize == "single"


@pytest.mark.parametrize(
    ("limits", "where"),
    [
        (Limits(weights=10), "--max-weights"),
        (Limits(arena=10), "--max-arena"),
        (Limits(latency=1e-12), "--max-latency"),
        (Limits(accuracy=1.01), "--min-accuracy"),
    ],
)
def test_impossible_limits_are_named(limits: Limits, where: str, problem: Problem, store: Store) -> None:
    with pytest.raises(UsageError, match="no policy keeps to") as caught:
        find_policy(problem, limits, objective="weights", store=store, kinds=("weights",), widths=(8, 4))
    assert caught.value.where == where
    assert "allow" in (caught.value.hint or "")


def test_the_final_artifact_keeps_to_the_limits_too(
    problem: Problem, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeq.search import run
    from edgeq.search.result.final import Measured

    plain = run.measure_final

    def larger(*given: object) -> Measured:
        return replace(plain(*given), weights=10**9)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "measure_final", larger)
    with pytest.raises(UsageError, match="no policy keeps to all limits") as caught:
        find_policy(
            problem, Limits(weights=1e8), objective="bitops", store=store, kinds=("weights",), widths=(8, 4)
        )  # fmt: skip
    assert caught.value.where == "--max-weights"


def test_unlabelled_data_is_judged_against_the_float_model(digits: Path, tmp_path: Path) -> None:
    with np.load(digits / "eval.npz") as archive:
        name = next(n for n in archive.files if n != "y")
        np.savez(tmp_path / "x.npz", **{name: archive[name][:64]})
    found = load_problem(digits / "digits.onnx", tmp_path / "x.npz", TARGET, calib_samples=16)
    assert not found.judge.has_labels
    assert found.judge.reference == 1.0
    with pytest.raises(DataError, match="no labels"):
        load_problem(digits / "digits.onnx", tmp_path / "x.npz", TARGET, metric="auc", calib_samples=16)
    with pytest.raises(DataError, match="too few samples"):
        load_problem(digits / "digits.onnx", tmp_path / "x.npz", TARGET, samples=4, calib_samples=16)


def test_integer_graph_is_refused(digits: Path, tmp_path: Path) -> None:
    import edgeq as package

    package.quantize(digits / "digits.onnx", "random", output=tmp_path / "g.onnx")
    with pytest.raises(UsageError, match="starts from a float model"):
        load_problem(tmp_path / "g.onnx", digits / "calib.npz", TARGET)


def test_command(digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "policy.yaml"
    done = edgeq(
        "search", digits / "digits.onnx", "--target", TARGET,
        "--data", digits / "calib.npz", "--eval", digits / "eval.npz",
        "--min-accuracy", "-1", "--objective", "weights", "--widths", "8,4", "--calib-samples", "32", "-o", output,
        "--html", tmp_path / "search.html",
    )  # fmt: skip
    assert "policies judged" in done.out
    assert Policy.load(output).layers
    assert "edgeq compile" in done.out
    assert "final artifact" in done.out
    assert "→" in done.out
    page = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "edgeq compile" in page
    shown = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert Policy.parse(shown["points"][0]["policy"]) == Policy.load(output)
    assert [point["chosen"] for point in shown["points"]].count(True) == 1


def test_what_compile_makes_of_the_policy_was_judged(
    problem: Problem, store: Store, digits: Path, tmp_path: Path
) -> None:
    import edgeq as package
    from edgeq.search.result.final import final_graph

    found = find_policy(problem, Limits(drop=1.0), objective="bitops", store=store, kinds=("weights",), widths=(8, 4))
    path = tmp_path / "policy.yaml"
    path.write_text(policy_text(found, Policy(), "digits.onnx", TARGET), encoding="utf-8")
    made = package.quantize(digits / "digits.onnx", digits / "calib.npz", samples=64, policy=path).graph
    mine = final_graph(problem, found.best.forms)
    constants = [{k: v.const_value.numpy() for k, v in g.model.graph.initializers.items()} for g in (made, mine)]
    assert constants[0].keys() == constants[1].keys()
    assert all(np.array_equal(constants[0][name], constants[1][name]) for name in constants[0])


def test_evolution(problem: Problem, store: Store) -> None:
    found = find_policy(
        problem,
        Limits(drop=1.0),
        objective="bitops",
        store=store,
        kinds=("weights",),
        widths=(8, 4, 2),
        solver="nsga2",
        evaluations=10,
    )
    assert found.best.accuracy >= problem.judge.reference - 0.01
    assert found.best.predicted["bitops"] < found.uniform.predicted["bitops"]
    assert found.judged[0] <= 11
    with pytest.raises(UsageError, match="unknown solver"):
        find_policy(problem, Limits(), store=store, solver="guess")


def test_the_least_harmful_within_a_tight_limit_is_tried(problem: Problem, store: Store) -> None:
    everything = find_policy(problem, Limits(), objective="bitops", store=store, kinds=("weights",), widths=(8, 4))
    narrow = everything.costs.tables["weights"]
    least = everything.costs.fixed["weights"] + sum(min(row.values()) for row in narrow.values())
    wide = everything.uniform.predicted["weights"]
    limit = least + 0.4 * (wide - least)
    found = find_policy(
        problem, Limits(weights=limit), objective="bitops", store=store, kinds=("weights",), widths=(8, 4)
    )
    assert found.best.predicted["weights"] <= limit
    tried = min(candidate.harm for candidate in found.seen if candidate.predicted["weights"] <= limit)
    layers = [[(narrow[x.name][f], found.sensitivity[x.name][f]) for f in x.forms] for x in found.space.places]
    fixed = everything.costs.fixed["weights"]
    within = (
        sum(harm for _, harm in choice)
        for choice in itertools.product(*layers)
        if fixed + sum(size for size, _ in choice) <= limit
    )
    assert tried == pytest.approx(min(within), rel=1e-6)
