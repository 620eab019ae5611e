"""The commands of docs/tutorial-boards.md that need no board, as a reader types them; the cores that it names."""

from __future__ import annotations

import re
import shlex

import pytest

from edgeq.compiler import list_targets
from tests.cli.helpers import edgeq
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "tutorial-boards.md").read_text(encoding="utf-8")
COMMANDS = [line for line in re.findall(r"^    edgeq (.+)$", PAGE, re.MULTILINE) if "--ssh" not in line]


@pytest.mark.emulated
@pytest.mark.node
def test_the_commands_that_need_no_board(tmp_path, monkeypatch) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        outcome = edgeq(*shlex.split(command))
        assert outcome.code == 0, (command, outcome.err)
    made = sorted(path.name for path in (tmp_path / "web").iterdir())
    assert made == ["digits.relaxed-arm.wasm", "digits.relaxed-x86.wasm", "digits.wasm", "edgeq.d.ts", "edgeq.mjs"]


def test_every_target_of_the_page_exists() -> None:
    table = re.findall(r"^\| .+? \| (`.+?`) \|", PAGE, re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`([\w-]+)`", cell)}
    assert len(named) > 10
    assert named <= set(list_targets())
