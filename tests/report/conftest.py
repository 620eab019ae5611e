"""The digits example measured once for each session: every planted regression starts from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.report.results import Results
from edgeq.report.runner import Run, run_suite
from edgeq.report.suite import Suite, load_suite

TARGET = "x86-avx2"


def digits_suite(folder: Path, digits: Path, model: str = "", more: str = "") -> Suite:
    """The digits example for one target; `model` and `more` are YAML for the model and the suite."""
    files = f"path: {digits / 'digits.onnx'}, calib: {digits / 'calib.npz'}, calib_samples: 64"
    body = f"{{{model or files}, data: {digits / 'eval.npz'}}}"
    path = folder / "suite.yaml"
    path.write_text(f"version: 1\nmodels:\n  digits: {body}\ntargets: [{TARGET}]\n{more}", encoding="utf-8")
    return load_suite(path)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Run:
    """A run of the unchanged tree."""
    folder = tmp_path_factory.mktemp("suite")
    return run_suite(digits_suite(folder, digits), folder)


@pytest.fixture(scope="session")
def baseline(measured: Run) -> Results:
    """Its results, as a baseline has them."""
    return Results.model_validate(measured.results.without_times().model_dump())
