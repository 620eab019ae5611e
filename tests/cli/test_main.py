"""The group itself: help, unknown commands, how errors end."""

from __future__ import annotations

import errno
import json
import subprocess
import sys

import pytest

from edgeq import __version__
from edgeq.cli import main
from edgeq.errors import DataError
from tests.cli.helpers import assert_refused, edgeq


def test_help_lists_every_command() -> None:
    outcome = edgeq("--help")
    assert outcome.code == 0
    for name in main.COMMANDS:
        assert f"  {name} " in outcome.out


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_json_and_debug(name: str) -> None:
    outcome = edgeq(name, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out
    assert "--debug" in outcome.out


def test_version() -> None:
    assert edgeq("--version").out.strip() == f"edgeq {__version__}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgeq.cli.main import invoke\ninvoke(['--help'])\n"
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'tvm', 'torch', 'rich', 'pydantic', 'yaml'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_import_edgeq_imports_nothing_heavy() -> None:
    code = "import sys, edgeq; print(sorted({'numpy', 'onnx', 'tvm', 'torch', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_command_names_the_nearest() -> None:
    outcome = edgeq("comple")
    assert outcome.code == 2
    assert "No such command 'comple'" in outcome.err
    assert "Did you mean 'compile'?" in outcome.err


def test_unknown_option_is_exit_code_2() -> None:
    outcome = edgeq("targets", "--nope")
    assert outcome.code == 2
    assert "--nope" in outcome.err


def test_usage_error_as_json() -> None:
    outcome = edgeq("targets", "--json", "--nope")
    assert outcome.code == 2
    assert json.loads(outcome.err)["error"] == "UsageError"


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("edgeq.environment.targets", fail)


def test_edgeq_error_prints_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, DataError("data is bad", where="x.npz", why="it is empty", hint="fill it"))
    outcome = edgeq("targets")
    assert_refused(outcome, "error: data is bad", "where: x.npz", "why: it is empty", "hint: fill it")
    assert outcome.out == ""


def test_edgeq_error_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, DataError("data is bad", where="x.npz"))
    outcome = edgeq("targets", "--json")
    assert outcome.code == 2
    assert json.loads(outcome.err) == {
        "error": "DataError",
        "what": "data is bad",
        "where": "x.npz",
        "why": None,
        "hint": None,
    }


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, DataError("data is bad"))
    with pytest.raises(DataError):
        edgeq("targets", "--debug")


def test_full_disk_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "/somewhere/model.edgeq"))
    assert_refused(edgeq("targets"), "No space left on device", "/somewhere/model.edgeq", "free some space")


def test_interrupt_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    outcome = edgeq("targets")
    assert outcome.code == 130
    assert outcome.err.strip() == "interrupted"


def test_a_defect_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, ZeroDivisionError("division by zero"))
    outcome = edgeq("targets")
    assert outcome.code == 1
    assert "internal error" in outcome.err
    assert "ZeroDivisionError" in outcome.err
    assert "--debug" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m edgeq.cli.main --help | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
