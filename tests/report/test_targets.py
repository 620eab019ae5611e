"""What a suite's targets may be besides one processor with a loader: several variants, a microcontroller."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.report.judge import judge
from edgeq.report.results import Results
from edgeq.report.runner import run_suite, save_artifacts
from edgeq.report.suite import load_suite


def suite_for(folder: Path, digits: Path, target: str) -> Path:
    path = folder / "suite.yaml"
    files = f"calib: {digits / 'calib.npz'}, calib_samples: 64, data: {digits / 'eval.npz'}"
    path.write_text(
        f"version: 1\nmodels:\n  digits: {{path: {digits / 'digits.onnx'}, {files}}}\ntargets: [{target}]\n"
    )
    return path


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["arm", "cortex-m4"])
def test_target(target: str, tmp_path: Path, digits: Path) -> None:
    suite = load_suite(suite_for(tmp_path, digits, target))
    run = run_suite(suite, tmp_path)
    (entry,) = run.results.entries
    assert entry.target == target
    assert (entry.ran, entry.differing, entry.agreement_samples) == ("emulated", 0, 8)
    assert entry.instructions == sum(step.instructions or 0 for step in entry.steps) > 0
    assert entry.stack
    assert entry.memory
    baseline = Results.model_validate(run.results.without_times().model_dump())
    assert judge(suite, run_suite(suite, tmp_path).results, baseline).status == "pass"
    save_artifacts(run, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.suffix == (".a" if target == "cortex-m4" else ".edgeq")
