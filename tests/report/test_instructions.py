"""Counting instructions under the emulator: exact, per step, and clear where it can't be done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgeq
from edgeq.errors import RunError, ToolError
from edgeq.evaluate import instructions
from edgeq.evaluate.instructions import count_instructions

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The digits example for Arm, in a path with what plugin arguments can't hold."""
    folder = tmp_path_factory.mktemp("a, b=c")
    return edgeq.compile(
        digits / "digits.onnx", target="arm-neon", calib=digits / "calib.npz", output=folder / "digits.edgeq"
    ).path


def test_counts_are_the_same_in_every_run(artifact: Path) -> None:
    first, second = count_instructions(artifact), count_instructions(artifact)
    assert first == second
    assert len(first.steps) == len(edgeq.load(artifact).steps)
    assert first.total == sum(first.steps)
    assert all(count > 10 for count in first.steps)


def test_counts_follow_the_work(artifact: Path) -> None:
    counted = count_instructions(artifact)
    heaviest = max(range(len(counted.steps)), key=lambda i: edgeq.load(artifact).steps[i].macs)
    # A Neon instruction does at most 16 multiply-accumulates, and hardly less than one on average.
    macs = edgeq.load(artifact).steps[heaviest].macs
    assert macs / 16 < counted.steps[heaviest] < macs


def test_stack_is_measured(artifact: Path) -> None:
    assert 128 < count_instructions(artifact).stack < 65536


def test_processor_feature_that_the_emulator_lacks(tmp_path: Path, digits: Path) -> None:
    path = edgeq.compile(
        digits / "digits.onnx", target="x86-vnni", calib="random", output=tmp_path / "v.edgeq"
    ).path  # fmt: skip
    with pytest.raises(RunError, match="avx512"):
        count_instructions(path)


def test_emulator_without_plugins(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho \"qemu: unknown option 'plugin'\" >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(instructions, "emulator_command", lambda arch: [str(fake)])
    with pytest.raises(ToolError, match="takes no counting plugin"):
        count_instructions(artifact)


def test_emulator_that_counts_nothing(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "emulator_command", lambda arch: [str(shutil.which("true"))])
    with pytest.raises(RunError, match="0 counts for"):
        count_instructions(artifact)
