"""The commands of docs/tutorial-firmware.md, as a reader types them, from a model to a digit on an emulated board."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import edgeq
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "tutorial-firmware.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    \$ (.+)$", PAGE, re.MULTILINE)


def test_there_are_ten_commands() -> None:
    assert len(COMMANDS) == 10


@pytest.mark.firmware
def test_the_commands_of_the_firmware_tutorial(digits, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    place = tmp_path / "firmware"
    place.mkdir()
    printed = [typed(command.replace("build/firmware", str(place))) for command in COMMANDS]
    assert "it fits" in printed[0]
    assert "0 differing bytes" in printed[4]
    outputs = [int(word) for word in printed[-1].split()]
    label = int(np.load(digits / "eval.npz")["y"][7])
    assert int(np.argmax(outputs)) == label
    assert f"label {label}" in printed[-3]


def typed(command: str) -> str:
    """What a command prints; edgeq's own run in this process, which has imported it already."""
    if command.startswith("edgeq "):
        outcome = edgeq(*shlex.split(command)[1:])
        assert outcome.code == 0, (command, outcome)
        return outcome.out
    command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, env=path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_page_shows_what_the_example_is_made_of() -> None:
    for name in re.findall(r"examples/[\w./-]+", PAGE):
        assert Path(ROOT / name).exists(), name
