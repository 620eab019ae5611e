"""The search on this machine: what it gives back, what it leaves behind, where it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.artifact.read import read
from edgeq.compiler.lower.select.choice import Decision
from edgeq.compiler.schedule import Schedule, read_schedule, tuned_path
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.tuning import search
from edgeq.tuning.calls import KernelCalls, burst, take_turns
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command
from tests.tuning.test_schedule import decisions, graph

TARGET = "x86-avx2"
needs_avx2 = pytest.mark.skipif(not load_target(TARGET).runs_here(), reason="this processor has no AVX2")


@needs_avx2
def test_tune_then_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "cache"))
    model, schedule = tmp_path / "m.int.onnx", tmp_path / "s.json"
    graph().save(model)
    Schedule(TARGET, {"another model's": "direct 0 1x1x1"}).save(tuned_path(TARGET))
    found = command("tune", model, "--target", TARGET, "-o", schedule, "--json")
    assert found.code == 0, found.err
    (shape,) = found.json["shapes"]
    (decision,) = decisions()
    assert shape["key"] == decision.key
    assert shape["tried"] == len(decision.candidates)
    assert shape["best"] in {candidate.label for candidate in decision.candidates}
    assert shape["ratio"] >= 1 or shape["best"] == shape["default"]
    written = read_schedule(schedule, TARGET)
    assert written.choices == {decision.key: shape["best"]}
    assert set(read_schedule(tuned_path(TARGET), TARGET).choices) == {decision.key, "another model's"}

    outputs, digests = [], []
    for given in (None, schedule, "tuned"):
        path = tmp_path / "m.edgeq"
        edgeq.compile(model, target=TARGET, output=path, schedule=given)
        x = np.arange(16 * 12 * 12, dtype=np.int64).reshape(1, 16, 12, 12).astype(np.int8)
        outputs.append(edgeq.load(path).run({"x": x}, dequantize=False)["y0"])
        digests.append(read(path).image.manifest["schedule"])
    assert digests[0] is None
    assert digests[1] == written.digest()
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])


def test_a_target_of_another_machine_is_refused(tmp_path: Path) -> None:
    graph().save(tmp_path / "m.int.onnx")
    other = "arm-neon" if load_target(TARGET).runs_here() else TARGET
    outcome = command("tune", tmp_path / "m.int.onnx", "--target", other)
    assert_refused(outcome, f"kernels for {other} can't be timed here", "such a machine")


@needs_avx2
def test_a_schedule_nowhere_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't write the schedule"):
        edgeq.tune(graph(), target=TARGET, output=tmp_path / "none" / "s.json")


def test_a_file_that_is_no_schedule_stops_a_compile(tmp_path: Path) -> None:
    graph().save(tmp_path / "m.int.onnx")
    (tmp_path / "s.json").write_text(json.dumps({"choices": {}}))
    outcome = command("compile", tmp_path / "m.int.onnx", "--target", TARGET, "--schedule", tmp_path / "s.json")
    assert_refused(outcome, "a schedule doesn't fit", "edgeq tune")


@needs_avx2
def test_a_shape_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    measured: list[str] = []
    measure = search._measured

    def counting(decision: Decision, calls: KernelCalls) -> search.Measured:
        measured.append(decision.key)
        return measure(decision, calls)

    monkeypatch.setattr(search, "_measured", counting)
    first = edgeq.tune(graph(), target=TARGET)
    assert edgeq.tune(graph(), target=TARGET) == first
    assert len(measured) == 1
    (place,) = tmp_path.glob("tuned/*/shape.json")
    place.write_text("{}")
    edgeq.tune(graph(), target=TARGET)
    edgeq.tune(graph(), target=TARGET, fresh=True)
    assert len(measured) == 3


def test_turns_give_every_call_a_time_a_round() -> None:
    counts = [0, 0]

    def call(place: int) -> None:
        counts[place] += 1
        sum(range(2000 * (1 + 4 * place)))

    times = take_turns([lambda: call(0), lambda: call(1)], 3)
    assert times.shape == (3, 2)
    assert (times > 0).all()
    assert counts[0] > counts[1] > 3
    assert burst(lambda: call(0), 4) > 0
