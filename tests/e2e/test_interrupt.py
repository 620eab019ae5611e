"""Ctrl-C in the middle of a compile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def test_an_interrupted_compile_leaves_nothing(digits: Path, tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "edgeq.cli.main", "compile", str(digits / "digits.onnx")]
    command += ["--calib", str(digits / "calib.npz"), "-o", str(out / "digits.edgeq")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "EDGEQ_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The kernel folder appears when work begins; with an empty cache there are seconds of it left.
    while not (cache / "kernels").exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    # A shell sees 130 in both cases. Python ends itself by the signal where it hit code run by exec(), handled or not.
    assert process.returncode in (130, -signal.SIGINT), said
    assert printed == ""
    assert said.strip() == "interrupted"
    assert list(out.iterdir()) == []
