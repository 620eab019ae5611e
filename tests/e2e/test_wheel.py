"""The wheel: everything inside, installs into an empty environment, compiles from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.full


def run(*command: object, **options: object) -> str:
    """Output of a command that has to succeed."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
    (found,) = folder.glob("edgeq-*.whl")
    return found


def test_the_wheel_carries_targets_and_runtime(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "edgeq/_targets/arm/target.toml",
        "edgeq/_targets/arm-neon/inner.py",
        "edgeq/_runtime/include/edgeq/edgeq.h",
        "edgeq/_runtime/include/edgeq/edgeq.hpp",
        "edgeq/_runtime/src/model.c",
        "edgeq/py.typed",
    ):
        assert name in names
    assert not [n for n in names if n.startswith("tests/") or "__pycache__" in n]


def test_install_and_compile_elsewhere(wheel: Path, digits: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", wheel)
    installed = run(python, "-m", "pip", "list")
    assert "torch" not in installed
    environment = {**os.environ, "EDGEQ_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("PYTHONPATH", None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    edgeq = [tmp_path / "venv" / "bin" / "edgeq"]
    options = ["--calib", digits / "calib.npz", "-o", "digits.edgeq"]
    run(*edgeq, "compile", digits / "digits.onnx", *options, cwd=elsewhere, env=environment)
    found = run(*edgeq, "eval", "digits.edgeq", "--data", digits / "eval.npz", cwd=elsewhere, env=environment)
    assert "artifact" in found
