"""A suite on boards: checked and timed there, and what differs there is a regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeq.board import BoardModel
from edgeq.errors import RunError, UsageError
from edgeq.report.boards import connected
from edgeq.report.judge import judge
from edgeq.report.results import Results
from edgeq.report.runner import Run, RunOptions, run_suite, save_artifacts
from edgeq.report.suite import Suite
from edgeq.runtime.runner import RunnerModel
from tests.report.conftest import TARGET, digits_suite
from tests.support.boards import FakeBoard, install


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return install(tmp_path, monkeypatch)


@pytest.fixture
def suite(tmp_path: Path, digits: Path) -> Suite:
    return digits_suite(tmp_path, digits)


@pytest.mark.parametrize("given", [f"{TARGET}=pi@board", "pi@board"])
def test_bits_on_a_board(
    given: str, board: FakeBoard, suite: Suite, measured: Run, baseline: Results, tmp_path: Path
) -> None:
    with connected([given], [], suite, tmp_path) as boards:
        found = run_suite(suite, tmp_path, RunOptions(boards=boards))
    entry = found.results.entries[0]
    assert (entry.ran, entry.differing, entry.golden) == ("board", 0, 2)
    assert entry.notes == ["ran on ssh:pi@board"]
    assert judge(suite, found.results, baseline).status == "pass"
    assert board.left_over() == []


def test_other_bits_on_a_board_are_a_regression(
    board: FakeBoard, suite: Suite, baseline: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: BoardModel, inputs: Any, **options: Any) -> dict[str, Any]:
        found = RunnerModel.run_batch(self, inputs, **options)
        for array in found.values():
            array.reshape(-1)[3] ^= 1
        return found

    monkeypatch.setattr(BoardModel, "run_batch", wrong)
    with connected([f"{TARGET}=pi@board"], [], suite, tmp_path) as boards:
        found = run_suite(suite, tmp_path, RunOptions(boards=boards))
    verdict = judge(suite, found.results, baseline)
    failed = verdict.of("fail")
    assert [f.check for f in failed] == ["agreement"]
    assert "on ssh:pi@board" in failed[0].text


def test_times_of_a_board(board: FakeBoard, digits: Path, measured: Run, tmp_path: Path) -> None:
    suite = digits_suite(tmp_path, digits, more="measure: {time: true, rounds: 11}\n")
    save_artifacts(measured, tmp_path / "old")
    with connected([], [f"{TARGET}="], suite, tmp_path) as boards:
        found = run_suite(suite, tmp_path, RunOptions(baseline_artifacts=tmp_path / "old", boards=boards))
    timing = found.results.entries[0].timing
    assert timing is not None
    assert timing.rounds == 11
    assert any("--times=" in call for call in board.calls())


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        (["nothing=pi@board"], "not among the suite's targets"),
        ([f"{TARGET}=pi@board", f"{TARGET}=pi@other"], "two boards for"),
    ],
)
def test_wrong_options(ssh: list[str], words: str, board: FakeBoard, suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words), connected(ssh, [], suite, tmp_path):
        pass
    assert board.left_over() == []


def test_a_board_of_another_architecture(board: FakeBoard, suite: Suite, tmp_path: Path) -> None:
    board.install("ssh", 'case "$last" in uname*) last="echo aarch64";; esac')
    with pytest.raises(UsageError, match="no target of the suite"), connected(["pi@board"], [], suite, tmp_path):
        pass


@pytest.mark.parametrize("named", [True, False])
def test_a_board_that_refuses(named: bool, board: FakeBoard, suite: Suite, tmp_path: Path) -> None:
    board.install("ssh", 'case "$last" in *--info*) last="echo edgeq-run: this CPU has no avx2 >&2; exit 2";; esac')
    given = f"{TARGET}=pi@board" if named else "pi@board"
    with connected([given], [], suite, tmp_path) as boards:
        if named:
            with pytest.raises(RunError, match="failed"):
                run_suite(suite, tmp_path, RunOptions(boards=boards))
            return
        entry = run_suite(suite, tmp_path, RunOptions(boards=boards)).results.entries[0]
    assert entry.ran == "native"
    assert entry.notes == ["not run on ssh:pi@board: this CPU has no avx2"]
