"""Every kind of regression, planted alone in the real pipeline: found, attributed, and told in all three texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeq.compiler.kernels.winograd.winograd import WinogradSpec
from edgeq.evaluate import instructions
from edgeq.report.judge import judge
from edgeq.report.results import Results
from edgeq.report.runner import Run, RunOptions, artifact_name, run_suite, save_artifacts
from edgeq.report.suite import Suite
from tests.report.conftest import TARGET, digits_suite
from tests.report.helpers import DAY, assert_found


def test_unchanged_tree_passes(measured: Run, baseline: Results, tmp_path: Path, digits: Path) -> None:
    suite = digits_suite(tmp_path, digits)
    again = run_suite(suite, tmp_path)
    verdict = judge(suite, again.results, baseline, DAY)
    assert verdict.status == "pass", [f.sentence for f in verdict.of("fail", "improved")]
    assert not verdict.of("new")
    assert again.results.entries[0].digest == measured.results.entries[0].digest


def test_one_weight_changed(measured: Run, tmp_path: Path, digits: Path) -> None:
    saved = next(iter(measured.artifacts.values()))
    graph = onnx.load(_graph_of(measured, tmp_path, digits))
    onnx.save(graph, tmp_path / "digits.int.onnx")
    suite = digits_suite(tmp_path, digits, f"path: {tmp_path / 'digits.int.onnx'}")
    before = run_suite(suite, tmp_path).results
    node = next(n for n in graph.graph.node if n.op_type == "Conv" and n.name == "features.3.0")
    tensor = next(t for t in graph.graph.initializer if t.name == node.input[1])
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[7] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    onnx.save(graph, tmp_path / "digits.int.onnx")
    after = run_suite(suite, tmp_path).results
    verdict = assert_found(suite, after, before, "bits", "features.3.0", "weights changed")
    assert verdict.of("fail")[-1].changes[0].layer == "features.3.0"
    assert saved.is_file()


def _graph_of(measured: Run, folder: Path, digits: Path) -> Path:
    """The integer graph that the baseline was compiled from."""
    import edgeq

    path = folder / "source.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=64, output=path)
    return path


def test_rounding_form_changed(baseline: Results, tmp_path: Path, digits: Path) -> None:
    (tmp_path / "policy.yaml").write_text("layers: {features.3.0: {requantize: single}}")
    suite = digits_suite(tmp_path, digits, more="policies: {default: policy.yaml}\n")
    after = run_suite(suite, tmp_path).results
    words = ("features.3.0", "rounding form changed from RequantizeNarrow to Requantize")
    verdict = assert_found(suite, after, baseline, "bits", *words)
    cause = next(f for f in verdict.of("fail") if f.check == "bits").changes[0]
    assert cause.layer.startswith("features.3.0")


def test_accuracy_dropped_by_half_a_point(baseline: Results, tmp_path: Path, digits: Path) -> None:
    (tmp_path / "policy.yaml").write_text("layers: {features.1.body.0.0: {weight_bits: 2, rounding: nearest}}")
    suite = digits_suite(tmp_path, digits, more="policies: {default: policy.yaml}\nlimits: {bits: any}\n")
    after = run_suite(suite, tmp_path).results
    words = ("features.1.body.0.0", "points worse", "0.2 allowed", "weights take 2 bits instead of 8")
    verdict = assert_found(suite, after, baseline, "accuracy", *words)
    finding = next(f for f in verdict.of("fail") if f.check == "accuracy")
    assert finding.baseline is not None
    assert finding.value is not None
    assert 0.3 < 100 * (finding.baseline - finding.value) < 0.8
    assert any("loses most against the float model" in change.what for change in finding.changes)


def test_arena_enlarged(baseline: Results, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = WinogradSpec.scratch_bytes
    monkeypatch.setattr(WinogradSpec, "scratch_bytes", lambda spec, target: real(spec, target) + 65536)
    suite = digits_suite(tmp_path, digits)
    after = run_suite(suite, tmp_path, RunOptions(reuse=False)).results
    verdict = assert_found(suite, after, baseline, "arena", "arena (RAM)", "buffer changed", target=TARGET)
    finding = next(f for f in verdict.of("fail") if f.check == "arena")
    steps = {step.name for step in after.entries[0].steps}
    assert any(f"written by {name}" in finding.changes[0].what for name in steps)
    monkeypatch.undo()
    run_suite(suite, tmp_path, RunOptions(reuse=False))  # the cache shall not keep what was planted


@pytest.mark.emulated
def test_kernel_slowed_in_instructions(
    baseline: Results, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = instructions.count_instructions

    def slowed(path: str | Path) -> instructions.InstructionCount:
        counted = real(path)
        steps = [n + 1 if i == 7 else n for i, n in enumerate(counted.steps)]
        return replace(counted, steps=steps)

    monkeypatch.setattr(instructions, "count_instructions", slowed)
    suite = digits_suite(tmp_path, digits)
    after = run_suite(suite, tmp_path, RunOptions(reuse=False)).results
    name = after.entries[0].steps[7].name
    verdict = assert_found(suite, after, baseline, "instructions", name, "the same kernel", target=TARGET)
    assert len(next(f for f in verdict.of("fail") if f.check == "instructions").changes) == 1
    monkeypatch.undo()
    run_suite(suite, tmp_path, RunOptions(reuse=False))  # the cache shall not keep what was planted


@dataclass
class Clock:
    """Stands for a loaded artifact: each step takes a given time, plus the noise of a busy machine."""

    nanoseconds: list[float]
    names: list[str]
    noise: np.random.Generator

    def measure(self, *, repeats: int, threads: int) -> np.ndarray:
        busy = self.noise.choice([1.0, 1.0, 1.0, 2.5]) * self.noise.lognormal(0, 0.03)
        return sum(self.nanoseconds) * busy * self.noise.lognormal(0, 0.02, repeats)

    def profile(self, *, repeats: int, threads: int) -> SimpleNamespace:
        steps = [
            SimpleNamespace(step=SimpleNamespace(name=n, kind="Conv+RequantizeNarrow"), median_ns=t)
            for n, t in zip(self.names, self.nanoseconds, strict=True)
        ]
        return SimpleNamespace(steps=steps, total_median_ns=sum(self.nanoseconds))


def _timed(run: Run, folder: Path, digits: Path, slow: str | None, seed: int) -> tuple[Suite, Results]:
    """The digits suite with a clock in which one step of the new artifact takes four times as long."""
    suite = digits_suite(folder, digits, more="measure: {time: true, rounds: 41}\n")
    names = [step.name for step in run.results.entries[0].steps]
    noise = np.random.default_rng(seed)
    save_artifacts(run, folder / "old")

    def load(path: Path) -> Clock:
        is_old = path.parent.name == "old"
        return Clock([40e3 if n == slow and not is_old else 10e3 for n in names], names, noise)

    options = RunOptions(baseline_artifacts=folder / "old", loader=load)
    return suite, run_suite(suite, folder, options).results


def test_kernel_slowed_in_time(measured: Run, baseline: Results, tmp_path: Path, digits: Path) -> None:
    suite, after = _timed(measured, tmp_path, digits, "features.5.0", 1)
    assert (tmp_path / "old" / artifact_name(("digits", "default", TARGET))).is_file()
    entry = after.entries[0]
    assert entry.timing is not None
    verdict = assert_found(suite, after, baseline, "time", "features.5.0", "+300 % of its time", target=TARGET)
    assert [f.check for f in verdict.of("fail")] == ["time"]


def test_no_false_alarm_in_20_noisy_runs(measured: Run, baseline: Results, tmp_path: Path, digits: Path) -> None:
    for seed in range(20):
        suite, after = _timed(measured, tmp_path, digits, None, seed)
        verdict = judge(suite, after, baseline, DAY)
        assert verdict.status == "pass", [f.sentence for f in verdict.of("fail", "improved")]


def test_target_that_disagrees_with_the_graph(measured: Run, baseline: Results, tmp_path: Path, digits: Path) -> None:
    suite = digits_suite(tmp_path, digits)
    after = measured.results.model_copy(deep=True)
    entry = after.entries[0]
    entry.differing, entry.disagreement = 3, "output logits[0, 4] is 7, the integer graph says 8"
    entry.steps[7].kernel += "x"
    words = ("gives other bits than the integer graph", "output logits[0, 4] is 7", entry.steps[7].name)
    assert_found(suite, after, baseline, "agreement", *words, target=TARGET)
