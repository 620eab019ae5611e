"""examples/firmware-cortex-m: builds, reads an input, prints what the reference says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.integer import IntegerGraph, reference

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "firmware-cortex-m"


@pytest.mark.firmware
@pytest.mark.parametrize(("board", "target"), [("mps2-an386", "cortex-m4"), ("mps3-an547", "cortex-m55")])
def test_the_firmware_prints_the_references_outputs(board, target, digits, tmp_path) -> None:
    path = tmp_path / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=16, output=path)
    edgeq.compile(path, target=target, output=tmp_path / "library", name="digits")
    subprocess.run([EXAMPLE / "build.sh", board, tmp_path / "library", tmp_path / "firmware.elf"], check=True)
    graph = IntegerGraph.load(path)
    value = graph.model.graph.inputs[0]
    shape = tuple(int(n) for n in value.shape or ())
    x = np.random.default_rng(5).integers(-128, 128, shape, dtype=np.int8)
    (tmp_path / "input.bin").write_bytes(x.tobytes())
    emulator = ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel", "firmware.elf"]
    done = subprocess.run(emulator, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    (expected,) = reference.run(graph, {str(value.name): x}).values()
    assert [int(word) for word in (done.stdout + done.stderr).split()] == expected.reshape(-1).tolist()
