"""The CI files that people copy: their scripts are run as a service would run them, without the service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SUITE = """\
version: 1
targets: [x86-avx2]
models:
  digits: {{path: {d}/digits.onnx, calib: {d}/calib.npz, calib_samples: 64, data: {d}/eval.npz}}
"""


@pytest.fixture
def checkout(tmp_path: Path, digits: Path) -> Path:
    """A user's repository with a suite, and `edgeq` on the path."""
    (tmp_path / "edgeq-suite.yaml").write_text(SUITE.format(d=digits))
    program = tmp_path / "bin" / "edgeq"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgeq.cli.main "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(script: str, checkout: Path, **variables: str) -> int:
    """Exit code of a script as both services start it: bash, stopping at errors."""
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    known = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=checkout, env=known, check=False).returncode


def test_github_action(checkout: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (step,) = [s for s in action["runs"]["steps"] if s.get("name") == "Measure and compare"]
    assert set(step["env"]) == {"SUITE", "BASELINE", "OPTIONS"}
    defaults = {name: str(item["default"]) for name, item in action["inputs"].items()}
    summary = checkout / "step-summary.md"
    known = {"SUITE": defaults["suite"], "BASELINE": "", "OPTIONS": "--jobs 1", "GITHUB_STEP_SUMMARY": str(summary)}
    assert run(step["run"], checkout, **known) == 0
    assert "digits" in summary.read_text()
    assert {p.name for p in (checkout / "edgeq-report").iterdir()} == {"report.html", "summary.md", "junit.xml"}


def test_github_action_fails_with_the_verdict(checkout: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (step,) = [s for s in action["runs"]["steps"] if s.get("name") == "Measure and compare"]
    with (checkout / "edgeq-suite.yaml").open("a") as suite:
        suite.write("limits: {arena: {max: 1}}\n")
    summary = checkout / "step-summary.md"
    known = {"SUITE": "edgeq-suite.yaml", "BASELINE": "", "OPTIONS": "", "GITHUB_STEP_SUMMARY": str(summary)}
    assert run(step["run"], checkout, **known) == 1
    assert "arena" in summary.read_text()
    assert run(step["run"], checkout, **{**known, "BASELINE": "missing.json"}) == 2


def test_gitlab_include(checkout: Path) -> None:
    job = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".edgeq-regress"]
    variables = {name: str(value) for name, value in job["variables"].items() if name != "EDGEQ_CACHE_DIR"}
    script = "\n".join(job["script"])
    assert run(script, checkout, **{**variables, "EDGEQ_BASELINE": ""}) == 0
    assert (checkout / job["artifacts"]["reports"]["junit"]).is_file()
    assert run(script, checkout, **variables) == 2  # the baseline that it names by default isn't there yet
