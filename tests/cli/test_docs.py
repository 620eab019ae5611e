"""docs/cli.md and the commands agree."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgeq.cli.main import COMMANDS, cli

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def options_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return {o for p in command.params if isinstance(p, click.Option) for o in p.opts if o.startswith("--")}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    missing = {option for option in options_of(name) if f"`{option}" not in PAGE and f" {option}" not in PAGE}
    assert not missing


def test_every_documented_option_exists() -> None:
    known = set().union(*(options_of(name) for name in COMMANDS)) | {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    assert re.search(rf"^## .*\b{name}\b", PAGE, re.MULTILINE)
