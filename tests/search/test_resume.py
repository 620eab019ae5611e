"""kill -9 in the middle: what was judged stays judged, and the answer is the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq.search import searcher
from edgeq.search.limits import Limits
from edgeq.search.problem import load_problem
from edgeq.search.result.found import Found
from edgeq.search.run import find_policy
from edgeq.search.store import Store

SCRIPT = """
import sys, time
from pathlib import Path
from edgeq.search import searcher
from tests.search.test_resume import search

plain = searcher.judge_assignment

def slow(*given):
    time.sleep(0.3)
    return plain(*given)

searcher.judge_assignment = slow
search(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def search(digits: Path, path: Path) -> Found:
    problem = load_problem(
        digits / "digits.onnx", digits / "calib.npz", "x86-avx2", evaluation=digits / "eval.npz", calib_samples=32
    )
    return find_policy(
        problem,
        Limits(drop=1.0),
        objective="bitops",
        widths=(8, 4, 2),
        kinds=("weights", "requantize"),
        store=Store(path),
    )


def test_killed_search_goes_on(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "killed.sqlite"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, digits, path])
    store = Store(path)
    deadline = time.monotonic() + 300
    while len(store.all(searcher.KIND)) < 3:
        assert process.poll() is None, "the search ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    known = store.all(searcher.KIND)
    judged: list[int] = []
    plain = searcher.judge_assignment

    def counted(*given: object) -> float:
        judged.append(1)
        return plain(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(searcher, "judge_assignment", counted)
    resumed = search(digits, path)
    assert resumed.judged[1] == len(judged) > 0
    assert len(store.all(searcher.KIND)) == len(known) + len(judged)
    fresh = search(digits, tmp_path / "fresh.sqlite")
    assert _answer(fresh) == _answer(resumed)


def _answer(found: Found) -> list[object]:
    """Without the times, which the two measured by themselves."""
    return [(each.forms, each.accuracy, each.harm, each.predicted["bitops"]) for each in [found.best, *found.front]]
