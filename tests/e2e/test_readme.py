"""What the README shows can be typed, and the pages it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.helpers import edgeq
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.emulated
def test_commands_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^    \$ edgeq (.+)$", README, re.MULTILINE)
    assert [shlex.split(c)[0] for c in commands] == ["compile", "compile", "eval", "compare", "bench"]
    for command in commands:
        outcome = edgeq(*shlex.split(command.replace("build/demo", str(tmp_path))))
        assert outcome.code == 0, (command, outcome.err)
        assert outcome.err == ""


def test_the_demo_runs_what_the_readme_shows() -> None:
    demo = (ROOT / "examples" / "digits" / "demo.sh").read_text(encoding="utf-8")
    demo = demo.replace("$out", "build/demo").replace("$data", "examples/digits")
    for command in re.findall(r"^    \$ (edgeq .+)$", README, re.MULTILINE):
        assert f"step {command}\n" in demo


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
