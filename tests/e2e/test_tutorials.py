"""The commands of docs/tutorial-firmware.md, as a reader types them, from a model to a digit on an emulated board."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "tutorial-firmware.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    \$ (.+)$", PAGE, re.MULTILINE)


def test_there_are_ten_commands() -> None:
    assert len(COMMANDS) == 10


@pytest.mark.firmware
def test_the_commands_of_the_firmware_tutorial(digits, tmp_path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in (("edgeq", '-c "from edgeq.cli.main import main; main()" "$@"'), ("python", '"$@"')):
        (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} {code}\n")
        (programs / name).chmod(0o755)
    place = tmp_path / "firmware"
    place.mkdir()
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    printed = []
    for command in COMMANDS:
        text = command.replace("build/firmware", str(place))
        done = subprocess.run(
            text, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        printed.append(done.stdout + done.stderr)
    assert "it fits" in printed[0]
    assert "0 differing bytes" in printed[4]
    outputs = [int(word) for word in printed[-1].split()]
    label = int(np.load(digits / "eval.npz")["y"][7])
    assert int(np.argmax(outputs)) == label
    assert f"label {label}" in printed[-3]


def test_the_page_shows_what_the_example_is_made_of() -> None:
    for name in re.findall(r"examples/[\w./-]+", PAGE):
        assert Path(ROOT / name).exists(), name
