"""Schedule files: written, read, refused, and applied without changing a bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.compiler.lower.lower import lower
from edgeq.compiler.lower.select.choice import Decision
from edgeq.compiler.schedule import MAX_BYTES, TUNED, Schedule, read_schedule, resolve_schedule, tuned_path
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.integer.graph import IntegerGraph
from tests.support.graphs import ZERO_POINT, Layers
from tests.support.kernel_runner import run_kernel

CHOICES = {"b": "direct 0 1x4x2", "a": "winograd 4"}


def test_a_file_comes_back_as_it_was_and_sorted(tmp_path: Path) -> None:
    schedule = Schedule("x86-avx2", CHOICES)
    schedule.save(tmp_path / "s.json")
    again = read_schedule(tmp_path / "s.json", "x86-avx2")
    assert again == schedule
    assert list(json.loads(schedule.text())["choices"]) == ["a", "b"]
    assert again.digest() == Schedule("x86-avx2", dict(reversed(CHOICES.items()))).digest()
    assert again.digest() != Schedule("x86-avx2", {}).digest()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "needs the keys"),
        ('{"version": 2, "target": "x86-avx2", "choices": {}}', "version 2"),
        ('{"version": 1, "target": "arm", "choices": {}}', "measured for 'arm'"),
        ('{"version": 1, "target": "x86-avx2", "choices": {"a": 1}}', "labels"),
        ('{"version": 1, "target": "x86-avx2", "choices": []}', "labels"),
        ('{"version": 1, "target": "x86-avx2", "choices": {}, "more": 0}', "no others"),
    ],
)
def test_what_is_no_schedule_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_schedule(path, "x86-avx2")
    assert why in caught.value.render()
    assert str(path) in caught.value.render()


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_schedule(tmp_path / "none.json", "x86-avx2")
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UsageError, match="too large"):
        read_schedule(huge, "x86-avx2")


def test_tuned_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="nothing was tuned"):
        resolve_schedule(TUNED, "x86-avx2")
    Schedule("x86-avx2", CHOICES).save(tuned_path("x86-avx2"))
    assert resolve_schedule(TUNED, "x86-avx2") == Schedule("x86-avx2", CHOICES)
    assert resolve_schedule(None, "x86-avx2") is None
    with pytest.raises(UsageError, match="doesn't fit"):
        resolve_schedule(Schedule("arm", {}), "x86-avx2")


def test_merging_keeps_both_and_the_newer_wins() -> None:
    merged = Schedule("t", {"a": "1", "b": "1"}).merged(Schedule("t", {"b": "2"}))
    assert merged.choices == {"a": "1", "b": "2"}


def graph() -> IntegerGraph:
    layers = Layers(0)
    return layers.finish(layers.conv(layers.input(1, 16, 12, 12), 24, 3))


class NarrowLayers(Layers):
    """With weights that several products multiply exactly."""

    def weights(self, *shape: int) -> np.ndarray:
        return super().weights(*shape) // np.int8(16)


def depthwise() -> IntegerGraph:
    layers = NarrowLayers(0)
    return layers.finish(layers.conv(layers.input(1, 48, 12, 12), 48, 3, group=48))


def product() -> IntegerGraph:
    layers = Layers(0)
    x = layers.input(1, 3, 21, 40)
    turned = layers.emit("Transpose", x, perm=[0, 1, 3, 2])
    scores = layers.emit("MatMul", x, turned, a_zero_point=ZERO_POINT, b_zero_point=ZERO_POINT)
    return layers.finish(layers.narrow(scores, (1,), 73 * 73 * 6))


GRAPHS = {"dense": graph, "depthwise": depthwise, "product": product}


def decisions(schedule: Schedule | None = None, kind: str = "dense") -> list[Decision]:
    return lower(GRAPHS[kind](), load_target("x86-avx2"), schedule=schedule).decisions


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_schedule_picks_among_the_candidates(kind: str) -> None:
    (default,) = decisions(kind=kind)
    assert default.chosen is default.candidates[0]
    for candidate in default.candidates:
        (decision,) = decisions(Schedule("x86-avx2", {default.key: candidate.label}), kind)
        assert decision.chosen.label == candidate.label
        assert decision.chosen.spec == candidate.spec
    assert len({candidate.label for candidate in default.candidates}) == len(default.candidates) > 3


def test_a_label_that_is_no_candidate_leaves_the_default() -> None:
    (default,) = decisions()
    (decision,) = decisions(Schedule("x86-avx2", {default.key: "winograd 6", "other": "direct 0 1x1x1"}))
    assert decision.chosen.spec == default.chosen.spec


@pytest.mark.parametrize("kind", GRAPHS)
def test_all_candidates_compute_the_same(kind: str) -> None:
    (decision,) = decisions(kind=kind)
    target, rng = load_target("x86-avx2"), np.random.default_rng(0)
    sizes = {name: count for name, _, count in decision.candidates[0].spec.parameters(target)}
    given = {
        o.name: rng.integers(0, 256, sizes[o.name]).astype(np.uint8)
        for o in decision.chosen.spec.operands()
        if o.role == "input"
    }
    results = []
    for candidate in decision.candidates:
        operands = given | {"y": np.zeros(sizes["y"], np.uint8)}
        results.append(run_kernel(candidate.spec, target, operands, dict(decision.constants))["y"])
    assert np.ptp(results[0]) > 0
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_depthwise_layers_may_take_the_product_for_any_weights() -> None:
    (decision,) = decisions(kind="depthwise")
    assert {candidate.label.split()[1] for candidate in decision.candidates} >= {"any", "taps"}


def test_every_tile_counts_the_same_tasks() -> None:
    """Threads share tasks out; what a schedule changes must not change that."""
    for kind in ("depthwise", "product"):
        (decision,) = decisions(kind=kind)
        assert len({candidate.spec.tasks() for candidate in decision.candidates}) == 1
