"""A board that is this machine: `ssh` and `adb` on the path that hand the command line to the local shell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.board.adb import AdbLink
from edgeq.board.ssh import SshLink

# The last argument is the command; `-O exit` ends a connection that was never made.
FAKE = """#!/bin/sh
echo "$@" >> "{log}"
case " $* " in *" -O exit "*) exit 0;; esac
for last; do :; done
{before}
exec sh -c "$last"
"""


class FakeBoard:
    """Puts programs on the path and remembers how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls.log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.install("ssh")
        self.install("adb")

    def install(self, name: str, before: str = "") -> None:
        """A program that runs `before` ahead of the command."""
        path = self.bin / name
        path.write_text(FAKE.format(log=self.log, before=before))
        path.chmod(0o755)

    def calls(self) -> list[str]:
        """Command lines, one a call."""
        return self.log.read_text().splitlines()

    def left_over(self) -> list[Path]:
        """Folders that are still on the board."""
        return list((self.folder / "tmp").glob("edgeq-*"))


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    """A board whose temporary folder is `folder`/tmp."""
    fake = FakeBoard(folder)
    (folder / "tmp").mkdir()
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    for link in (SshLink, AdbLink):
        monkeypatch.setattr(link, "scratch", str(folder / "tmp"))
    return fake
