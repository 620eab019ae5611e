"""Everything a user can get wrong: exit code 2, one message that helps, no traceback, no half-written output."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.helpers import Outcome, assert_refused, edgeq


def compile_refused(
    model: Path, tmp_path: Path, *words: str, calib: object = "random", extra: tuple[str, ...] = ()
) -> None:
    """Compiling fails with the words, and leaves the output folder as it was."""
    folder = tmp_path / "out"
    folder.mkdir()
    outcome = edgeq("compile", model, "--calib", calib, "-o", folder / "m.edgeq", *extra)
    assert_refused(outcome, *words)
    assert outcome.out == ""
    assert list(folder.iterdir()) == []


def npz(tmp_path: Path, **arrays: np.ndarray) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def samples(count: int = 16) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 2, 4, 4)).astype(np.float32)


# Models


def test_not_an_onnx_file(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"GIF89a" + bytes(range(256)) * 4)
    compile_refused(model, tmp_path, str(model), "hint:")


def test_missing_model(tmp_path: Path) -> None:
    compile_refused(tmp_path / "nope.onnx", tmp_path, "no such model", "nope.onnx")


def test_a_folder_as_model(tmp_path: Path) -> None:
    compile_refused(tmp_path, tmp_path, "it is a folder")


def test_truncated_model(tiny: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes((tiny / "tiny.onnx").read_bytes()[:-200])
    compile_refused(model, tmp_path, str(model))


def test_unsupported_op(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,2,4,4] x) => (float[1,2,4,4] y) { y = Det2 (x) }'
    )
    proto.graph.node[0].op_type = "Hardmax"
    proto.graph.node[0].name = "the_layer"
    model = tmp_path / "m.onnx"
    onnx.save(proto, model)
    compile_refused(model, tmp_path, "Hardmax", "the_layer")


def test_unknown_shape_name(tiny: Path, tmp_path: Path) -> None:
    compile_refused(tiny / "tiny.onnx", tmp_path, "nope", extra=("--shape", "nope=1x2x4x4"))


# Calibration data


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (samples()[:, :1], ("wrong shape", "'x'")),
        (samples().transpose(0, 2, 3, 1), ("wrong shape", "hint")),
        (np.array(["a", "b"]), ("numeric",)),
        (np.full((16, 2, 4, 4), np.nan, np.float32), ("NaN",)),
        (samples(0), ("no calibration samples",)),
    ],
    ids=["shape", "layout", "dtype", "nan", "empty"],
)
def test_bad_calibration_data(tiny: Path, tmp_path: Path, x: np.ndarray, words: tuple[str, ...]) -> None:
    compile_refused(tiny / "tiny.onnx", tmp_path, *words, calib=npz(tmp_path, x=x))


def test_calibration_name_that_is_not_in_the_model(tiny: Path, tmp_path: Path) -> None:
    compile_refused(tiny / "tiny.onnx", tmp_path, "no input 'image'", calib=npz(tmp_path, image=samples()))


def test_missing_calibration_file(tiny: Path, tmp_path: Path) -> None:
    compile_refused(tiny / "tiny.onnx", tmp_path, "nope.npz", calib=tmp_path / "nope.npz")


def test_broken_calibration_file(tiny: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not really")
    compile_refused(tiny / "tiny.onnx", tmp_path, "broken.npz", calib=broken)


def test_few_samples_are_a_warning(tiny: Path, tmp_path: Path) -> None:
    outcome = edgeq("compile", tiny / "tiny.onnx", "--calib", npz(tmp_path, x=samples(2)), "-o", tmp_path / "m.edgeq")
    assert outcome.code == 0, outcome.err
    assert "warning: only 2 calibration samples" in outcome.err


def test_no_calibration_data(tiny: Path, tmp_path: Path) -> None:
    outcome = edgeq("compile", tiny / "tiny.onnx", "-o", tmp_path / "m.edgeq")
    assert_refused(outcome, "needs calibration data", "--calib random")
    assert_refused(edgeq("quantize", tiny / "tiny.onnx"), "needs calibration data")


def test_random_calibration_is_marked_everywhere(tiny: Path, tmp_path: Path) -> None:
    artifact, graph = tmp_path / "m.edgeq", tmp_path / "m.int.onnx"
    assert "NOT CALIBRATED" in edgeq("quantize", tiny / "tiny.onnx", "--calib", "random", "-o", graph).out
    assert "NOT CALIBRATED" in edgeq("compile", graph, "-o", artifact).out
    assert "NOT CALIBRATED" in edgeq("compile", tiny / "tiny.onnx", "--calib", "random", "-o", artifact).out
    assert "NOT CALIBRATED" in edgeq("inspect", artifact).out
    assert "NOT CALIBRATED" in edgeq("inspect", graph).out


def test_calibration_of_an_integer_graph(tiny: Path, tmp_path: Path) -> None:
    graph = tmp_path / "m.int.onnx"
    assert edgeq("quantize", tiny / "tiny.onnx", "--calib", tiny / "good.npz", "-o", graph).code == 0
    compile_refused(graph, tmp_path, "already quantized", "--calib", calib=tiny / "good.npz")


# Targets, tools, disk


def test_unknown_target(tiny: Path, tmp_path: Path) -> None:
    compile_refused(tiny / "tiny.onnx", tmp_path, "unknown target 'amr'", "arm", extra=("--target", "amr"))


def test_policy_that_names_no_layer(tiny: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("layers: {conv_out: {weight_bits: 4}}\n")
    compile_refused(tiny / "tiny.onnx", tmp_path, "conv_out", "conv_in", extra=("--policy", str(policy)))


def test_no_linker(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.artifact.tools.zig", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    compile_refused(tiny / "tiny.onnx", tmp_path, "ziglang")


def test_output_folder_that_does_not_exist(tiny: Path, tmp_path: Path) -> None:
    outcome = edgeq("compile", tiny / "tiny.onnx", "--calib", "random", "-o", tmp_path / "no" / "m.edgeq")
    assert_refused(outcome, "its folder doesn't exist", "mkdir -p")
    outcome = edgeq("quantize", tiny / "tiny.onnx", "--calib", "random", "-o", tmp_path)
    assert_refused(outcome, "it is a folder")


def test_no_space(tiny: Path, tmp_path: Path) -> None:
    """A file size limit stands for the full disk: writes fail in the same places."""
    warm = edgeq("compile", tiny / "tiny.onnx", "--calib", "random", "-o", tmp_path / "warm.edgeq")
    assert warm.code == 0, warm.err
    folder = tmp_path / "out"
    folder.mkdir()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    command = [sys.executable, "-m", "edgeq.cli.main", "compile", str(tiny / "tiny.onnx"), "--calib", "random"]
    done = subprocess.run(
        [*command, "-o", str(folder / "m.edgeq")], capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert_refused(Outcome(done.returncode, done.stdout, done.stderr))
    assert list(folder.iterdir()) == []


def test_an_old_output_survives_a_failure(tiny: Path, tmp_path: Path) -> None:
    old = tmp_path / "m.edgeq"
    old.write_text("precious")
    assert edgeq("compile", tiny / "tiny.onnx", "--calib", "random", "--target", "amr", "-o", old).code == 2
    assert old.read_text() == "precious"


# Artifacts


@pytest.mark.parametrize("command", ["run", "verify", "inspect", "profile", "bench", "eval"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "foreign file"])
def test_damaged_artifact(
    digits_artifacts: dict[str, Path], digits: Path, tmp_path: Path, command: str, damage: str
) -> None:
    data = digits_artifacts["host"].read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    bad = tmp_path / "bad.edgeq"
    bad.write_bytes(
        {"truncated": data[:-1000], "changed": changed, "empty": b"", "foreign file": b"#!/bin/sh\n"}[damage]
    )
    extra = {"run": ("--input", digits / "eval.npz"), "eval": ("--data", digits / "eval.npz")}.get(command, ())
    assert_refused(edgeq(command, bad, *extra), "bad.edgeq")


def test_artifact_of_another_abi(digits_artifacts: dict[str, Path], tmp_path: Path) -> None:
    import hashlib

    from edgeq.artifact.format import DIGEST_SIZE, TRAILER

    data = bytearray(digits_artifacts["host"].read_bytes())
    data[len(data) - TRAILER.size + TRAILER.offsets()["abi_version"]] += 1
    data[-DIGEST_SIZE:] = hashlib.blake2b(data[:-DIGEST_SIZE], digest_size=DIGEST_SIZE).digest()
    other = tmp_path / "other.edgeq"
    other.write_bytes(data)
    assert_refused(edgeq("verify", other), "other.edgeq", "ABI")


def test_foreign_artifact_without_an_emulator(
    digits_artifacts: dict[str, Path], digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.runtime.emulate.shutil.which", lambda name: None)
    outcome = edgeq("run", digits_artifacts["arm"], "--input", digits / "eval.npz")
    assert_refused(outcome, "qemu-aarch64", "apt-get install qemu-user")


def test_input_of_the_wrong_size(digits_artifacts: dict[str, Path], tmp_path: Path) -> None:
    data = npz(tmp_path, x=np.zeros((4, 1, 9, 9), np.float32))
    outcome = edgeq("run", digits_artifacts["host"], "--input", data, "-o", tmp_path / "y.npz")
    assert_refused(outcome, "wrong shape", "image")
    assert not (tmp_path / "y.npz").exists()


def test_outputs_go_into_an_npz(digits_artifacts: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    outcome = edgeq("run", digits_artifacts["host"], "--input", digits / "eval.npz", "-o", tmp_path / "y.txt")
    assert outcome.code == 2
    assert ".npz" in outcome.err
