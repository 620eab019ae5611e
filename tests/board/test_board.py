"""Artifacts on a board: same bits, real times, nothing left behind, messages that help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.board import connect
from edgeq.errors import RunError, ToolError, UsageError
from edgeq.runtime import load
from edgeq.runtime.load import host_arch
from tests.support.boards import FakeBoard
from tests.support.fakes import COLUMNS, ROWS, fake_image, reference, write_fake

HOST = host_arch() or ""
WAYS = [pytest.param({"ssh": "pi@board"}, id="ssh"), pytest.param({"adb": ""}, id="adb")]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_fake(tmp_path / "m = 1.edgeq", HOST)


@pytest.mark.parametrize("way", WAYS)
def test_same_bits_and_nothing_left(way: dict[str, str], board: FakeBoard, artifact: Path) -> None:
    samples = np.random.default_rng(1).integers(-128, 128, (3, ROWS, COLUMNS), dtype=np.int8)
    with connect(**way) as there:
        assert there.arch == HOST
        model = there.load(artifact)
        assert model.verify() == 1
        for name, array in model.run_batch(samples, threads=2).items():
            assert np.array_equal(array, [reference(sample)[name] for sample in samples])
        assert len(board.left_over()) == 1
    assert board.left_over() == []


def test_times(board: FakeBoard, artifact: Path) -> None:
    with connect(ssh="board") as there:
        model = there.load(artifact)
        times = model.measure(repeats=7)
        profile = model.profile(repeats=5)
    assert times.shape == (7,)
    assert (times > 0).all()
    here = load(artifact)
    assert [s.step.name for s in profile.steps] == [s.name for s in here.steps]
    assert profile.repeats == 5
    assert profile.total_min_ns <= profile.total_median_ns


def test_runner_travels_once(board: FakeBoard, artifact: Path) -> None:
    with connect(ssh="board") as there:
        there.load(artifact)
        there.load(artifact)
    assert sum("/edgeq-run" in call and "cat >" in call for call in board.calls()) == 1


def test_serial_number(board: FakeBoard, artifact: Path) -> None:
    with connect(adb="emulator-5554"):
        pass
    assert board.calls()[0].startswith("-s emulator-5554 shell -T ")


@pytest.mark.parametrize("destination", ["-oProxyCommand=touch x", "a b", "", "x;y", "$(id)"])
def test_destination_is_no_option(destination: str, board: FakeBoard) -> None:
    with pytest.raises(UsageError, match="not a destination of ssh"), connect(ssh=destination):
        pass
    assert not board.log.exists()


def test_serial_is_no_option(board: FakeBoard) -> None:
    with pytest.raises(UsageError, match="not a serial number"), connect(adb="-x"):
        pass


def test_unreachable(board: FakeBoard) -> None:
    board.install("ssh", "echo 'Permission denied (publickey)' >&2; exit 255")
    with pytest.raises(RunError) as caught, connect(ssh="board"):
        pass
    assert all(part in caught.value.render() for part in ("ssh:board", "Permission denied", "ssh-copy-id"))


def test_no_answer(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.board.board.CONNECT_SECONDS", 0.2)
    board.install("ssh", "exec sleep 5")
    with pytest.raises(RunError, match="no answer within"), connect(ssh="board"):
        pass


def test_unknown_processor(board: FakeBoard) -> None:
    board.install("ssh", "last='echo sparc64'")
    with pytest.raises(RunError, match="the board is a 'sparc64'"), connect(ssh="board"):
        pass


def test_a_folder_that_is_not_ours_is_never_removed(board: FakeBoard) -> None:
    board.install("ssh", 'case "$last" in mktemp*) last="echo /home";; esac')
    with pytest.raises(RunError, match="the board made no folder"), connect(ssh="board"):
        pass
    assert not any("rm -rf" in call for call in board.calls())


def test_artifact_of_another_architecture(board: FakeBoard, tmp_path: Path) -> None:
    other = write_fake(tmp_path / "other.edgeq", "aarch64" if HOST == "x86_64" else "x86_64")
    with pytest.raises(RunError, match="the artifact is for"), connect(ssh="board") as there:
        there.load(other)
    assert board.left_over() == []


def test_wrong_golden_vector(board: FakeBoard, tmp_path: Path) -> None:
    image = fake_image()
    image.golden[0].outputs[0][3, 4] ^= 1
    wrong = write_fake(tmp_path / "m.edgeq", HOST, image=image)
    with connect(ssh="board") as there, pytest.raises(RunError, match="golden vector 0: output y differs"):
        there.load(wrong).verify()


def test_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.board.link.shutil.which", lambda name: None)
    with pytest.raises(ToolError, match="ssh was not found") as caught, connect(ssh="board"):
        pass
    assert "openssh-client" in (caught.value.hint or "")
    with pytest.raises(ToolError, match="adb was not found"), connect(adb=""):
        pass


def test_one_way(board: FakeBoard) -> None:
    for ways in ({}, {"ssh": "board", "adb": ""}):
        with pytest.raises(UsageError, match="by ssh or by adb"):
            connect(**ways)
